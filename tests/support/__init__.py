"""Parts that tests of every folder share: waiting, clocks, servers, clients, applications."""
