"""The loss terms, a file for each family, and the recipes that add them up; imports utils/, models/.

Start at ``objectives``: it registers every term and says which stage has which.
"""
