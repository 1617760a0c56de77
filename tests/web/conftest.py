from tests.shell.conftest import embedded_broker as embedded_broker
