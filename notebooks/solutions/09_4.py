# All numbers, and those that were measured. With a reflectance of 0.05 five holes in a hundred pixels are enough:
# 0.95 · 0.05 is less than 0.05 · 0.9999.
def means(numbers):
    measured = numbers[numbers != -9999]
    return numbers.mean() / 10_000, measured.mean() / 10_000
