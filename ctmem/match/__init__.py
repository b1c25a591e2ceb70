"""Stage 2, texture from a reference of other ground, told in order: align → patches → search → matching → dmb.

`align` brings query and reference to one look, `patches` cuts windows, `search` finds the most alike, `matching` says
where they are, `dmb` makes the texture. Of references of the same ground, `agreement` lays all of one under the query
where windows agree, and `detail` takes over what it has. Advanced: `texture_library` keeps references in a file,
`faiss_index` searches very many.
"""
