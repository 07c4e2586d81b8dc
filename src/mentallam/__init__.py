"""mentallam: does this post match this DSM-5 depression criterion?"""

__version__ = "0.1.0"
