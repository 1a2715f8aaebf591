"""Options of the whole suite."""


def pytest_addoption(parser):
    parser.addoption("--screenshots", metavar="FOLDER", help="where browser tests leave their screenshots")
