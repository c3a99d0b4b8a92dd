from hypothesis import settings

settings.register_profile("numerics", deadline=None, max_examples=30)
settings.load_profile("numerics")
