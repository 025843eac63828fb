"""What stock vision-language models of transformers 5 say of their visual tokens: one small file a family, behind families.py."""
