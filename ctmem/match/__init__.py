"""Stage 2, texture from a reference of other ground, told in order: align → patches → search → matching → dmb.

`align` brings query and reference to one look, `patches` cuts windows, `search` finds the most alike, `matching` says
where they are, `dmb` makes the texture. Advanced: `texture_library` keeps references in a file, `faiss_index` searches
very many.
"""
