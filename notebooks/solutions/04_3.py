# zncc doesn't see gain and offset, and `turns` tries all turns and mirrors.
def find(patch, reference):
    found = matching.match(patch, reference, patch=8, stride=1, turns=True)
    row, column, _ = found.windows[0, 0, 0].tolist()
    return row, column
