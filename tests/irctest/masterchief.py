"""How irctest drives MasterChief: a folder with a configuration for each test, and the program that was built."""

import json
import os
from typing import Optional, Type

from irctest import authentication, tls
from irctest.basecontrollers import BaseClientController, DirectoryBasedController


class MasterChiefController(BaseClientController, DirectoryBasedController):
    software_name = "MasterChief"
    supported_sasl_mechanisms = {
        "PLAIN",
        "ECDSA-NIST256P-CHALLENGE",
        "SCRAM-SHA-256",
        "EXTERNAL",
    }
    supports_sts = True

    def run(
        self,
        hostname: str,
        port: int,
        auth: Optional[authentication.Authentication],
        tls_config: Optional[tls.TlsConfig] = None,
    ) -> None:
        assert self.proc is None
        self.create_config()
        network: dict = {
            "servers": [f"{hostname}:{port}"],
            "nick": "chief",
            "channels": [],
            "tls": {
                "enabled": bool(tls_config and tls_config.enable),
                "fingerprints": tls_config.trusted_fingerprints if tls_config else [],
            },
        }
        if auth:
            sasl = {
                "mechanisms": [mech.to_string() for mech in auth.mechanisms],
                "account": auth.username,
                "password": auth.password,
                "ecdsa_key": auth.ecdsa_key,
                # The suite logs in without TLS.
                "allow_plaintext": True,
            }
            network["sasl"] = {key: value for key, value in sasl.items() if value is not None}
        assert self.directory
        folder = self.directory / "config" / "global"
        folder.mkdir(parents=True, exist_ok=True)
        (self.directory / "scripts").mkdir(exist_ok=True)
        # JSON is YAML.
        (folder / "config.yaml").write_text(json.dumps({"networks": {"testnet": network}}))
        program = os.environ.get("MASTERCHIEF_PROGRAM", "masterchief")
        self.proc = self.execute([program, "run", self.directory])


def get_irctest_controller_class() -> Type[MasterChiefController]:
    return MasterChiefController
