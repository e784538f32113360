//! Real IRC servers on free loopback ports, each with a folder of its own, stopped when the story is over.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// The account and its password that [`Lab::with_services`] registers.
pub(crate) const ACCOUNT: (&str, &str) = ("masterchief", "sesame-sesame");

/// What the server needs for the stories.
const MODULES: &[&str] = &[
    "ssl_gnutls",
    "sslinfo",
    "spanningtree",
    "cap",
    "ircv3",
    "ircv3_accounttag",
    "ircv3_batch",
    "ircv3_capnotify",
    "ircv3_chghost",
    "ircv3_ctctags",
    "ircv3_echomessage",
    "ircv3_invitenotify",
    "ircv3_labeledresponse",
    "ircv3_msgid",
    "ircv3_servertime",
    "monitor",
    "namesx",
    "uhnames",
    "botmode",
    "services_account",
    "sasl",
    "chanhistory",
    "md5",
    "sanick",
    "sakick",
    "saquit",
    "kicknorejoin",
    "setname",
    "chghost",
    "sha1",
    "websocket",
    "cgiirc",
    "deaf",
    "blockcolor",
    "stripcolor",
];

/// InspIRCd, with services beside it if wanted.
pub(crate) struct Lab {
    dir: TempDir,
    /// Plain text, no limits.
    pub(crate) plain: u16,
    /// TLS with a certificate of the lab's own authority.
    pub(crate) tls: u16,
    /// TLS with a certificate that nobody signed, for another name.
    pub(crate) stranger: u16,
    /// Plain text, five lines and then one every two seconds, else `Excess Flood`.
    pub(crate) flood: u16,
    /// WebSocket without TLS.
    pub(crate) web: u16,
    /// The leaf's port, plain text; 0 where there is none.
    pub(crate) leaf: u16,
    servers: u16,
    leaf_ircd: Option<Server>,
    ircd: Option<Server>,
    services: Option<Server>,
}

/// A process that ends with the story.
struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be stopped (SIGSTOP); KILL ends it all the same. If it has ended, there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lab {
    /// InspIRCd alone.
    pub(crate) fn start() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let [plain, tls, stranger, flood, web, servers] = free_ports();
        let (leaf_ircd, ircd, services) = (None, None, None);
        let mut lab = Lab { dir, plain, tls, stranger, flood, web, leaf: 0, servers, leaf_ircd, ircd, services };
        std::fs::write(lab.path("inspircd.conf"), lab.inspircd_conf()).unwrap();
        lab.start_ircd();
        lab
    }

    /// InspIRCd with NickServ and SASL; [`ACCOUNT`] is registered, its certificate too.
    pub(crate) async fn with_services() -> Lab {
        let mut lab = Lab::start();
        std::fs::write(lab.path("services.conf"), services_conf(lab.servers)).unwrap();
        std::fs::create_dir_all(lab.path("services")).unwrap();
        lab.start_services();
        crate::services::register(&lab, ACCOUNT.0, ACCOUNT.1, Some(&lab.fingerprint("client"))).await;
        lab
    }

    /// Starts services, again if they were stopped.
    pub(crate) fn start_services(&mut self) {
        let mut command = Command::new("atheme-services");
        command.args(["-n", "-c"]).arg(self.path("services.conf")).arg("-D").arg(self.path("services"));
        command.arg("-l").arg(self.path("services/log")).arg("-p").arg(self.path("services/pid"));
        self.services = Some(spawn(command, self.dir.path(), "services.out"));
    }

    /// Tells services to stop; ready when they have written down what they know and are gone.
    pub(crate) fn stop_services(&mut self) {
        let mut services = self.services.take().unwrap();
        assert!(Command::new("kill").arg(services.child.id().to_string()).status().unwrap().success());
        let start = Instant::now();
        while services.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "services do not stop");
            wait(Duration::from_millis(20));
        }
    }

    /// InspIRCd with another one linked to it, which comes back by itself when it is split off.
    pub(crate) async fn with_leaf() -> Lab {
        let mut lab = Lab::start();
        let [leaf] = free_ports();
        lab.leaf = leaf;
        std::fs::create_dir_all(lab.path("leaf")).unwrap();
        std::fs::write(lab.path("leaf.conf"), lab.leaf_conf()).unwrap();
        let mut command = Command::new("inspircd");
        command.args(["--nofork", "--nopid", "--config"]).arg(lab.path("leaf.conf"));
        if is_root() {
            command.arg("--runasroot");
        }
        lab.leaf_ircd = Some(spawn(command, lab.dir.path(), "leaf.out"));
        await_port(leaf, &lab.path("leaf.out"));
        let mut watcher = crate::person::Person::connect(lab.plain, "watcher").await;
        let start = Instant::now();
        loop {
            watcher.sends("LINKS");
            if watcher
                .waits_for(Duration::from_millis(500), |line| line.params.iter().any(|name| name == "leaf.lab.test"))
                .await
                .is_some()
            {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "the leaf does not link");
        }
        watcher.quits();
        lab
    }

    /// Starts the server, again if it was ended.
    pub(crate) fn start_ircd(&mut self) {
        let mut command = Command::new("inspircd");
        command.args(["--nofork", "--nopid", "--config"]).arg(self.path("inspircd.conf"));
        if is_root() {
            command.arg("--runasroot");
        }
        self.ircd = Some(spawn(command, self.dir.path(), "inspircd.out"));
        await_port(self.plain, &self.path("inspircd.out"));
    }

    /// Kills the server.
    pub(crate) fn kill_ircd(&mut self) {
        self.ircd = None;
    }

    /// Stops the server without ending it: it answers nothing, and no FIN is sent. Or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let pid = self.ircd.as_ref().unwrap().child.id();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    }

    /// The file of the lab's authority.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file of the lab.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// SHA-256 of a certificate: `server`, `client` or `stranger`.
    pub(crate) fn fingerprint(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.fingerprint"))).unwrap()
    }

    fn inspircd_conf(&self) -> String {
        let Lab { plain, tls, stranger, flood, web, servers, .. } = self;
        let dir = self.dir.path().display();
        let modules: String = MODULES.iter().map(|name| format!("<module name=\"{name}\">\n")).collect();
        format!(
            r#"<path configdir="{dir}" datadir="{dir}" logdir="{dir}" runtimedir="{dir}">
<server name="irc.lab.test" description="lab" network="LabNet" id="0LB">
<admin name="lab" email="lab@lab.test" nick="lab">
<options casemapping="rfc1459" prefixquit="Quit: " defaultmodes="not" allowmismatch="yes">
<security announceinvites="none" maxtargets="20">
<performance netbuffersize="10240" softlimit="2000">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="inspircd.log" flush="1">
<sslprofile name="lab" provider="gnutls" hash="sha256" certfile="server.pem" keyfile="server.key" requestclientcert="yes">
<sslprofile name="stranger" provider="gnutls" hash="sha256" certfile="stranger.pem" keyfile="stranger.key">
{modules}<sasl target="services.lab.test" requiressl="no">
<chanhistory maxlines="50" prefixmsg="no" bots="yes">
<class name="all" commands="*" usermodes="*" chanmodes="*" snomasks="*" privs="*">
<type name="oper" classes="all">
<oper name="oper" password="operpass" host="*@*" type="oper">
<bind address="127.0.0.1" port="{servers}" type="servers">
<link name="services.lab.test" ipaddr="127.0.0.1" allowmask="127.0.0.1" port="1" sendpass="linkpass" recvpass="linkpass">
<link name="leaf.lab.test" ipaddr="127.0.0.1" allowmask="127.0.0.1" port="1" sendpass="linkpass" recvpass="linkpass">
<uline server="services.lab.test" silent="yes">
<cgihost type="webirc" mask="127.0.0.1" password="gatepass">
<websocket defaultmode="text">
<wsorigin allow="*">
<bind address="127.0.0.1" port="{web}" type="clients" hook="websocket">
<bind address="127.0.0.1" port="{plain}" type="clients">
<bind address="127.0.0.1" port="{tls}" type="clients" ssl="lab">
<bind address="127.0.0.1" port="{stranger}" type="clients" ssl="stranger">
<bind address="127.0.0.1" port="{flood}" type="clients">
<connect name="flood" allow="*" port="{flood}" resolvehostnames="no" timeout="30" pingfreq="60" localmax="1000"
  globalmax="1000" maxconnwarn="no" recvq="8192" threshold="5" commandrate="500" fakelag="no">
<connect name="main" allow="*" resolvehostnames="no" timeout="30" pingfreq="60" localmax="1000" globalmax="1000"
  maxconnwarn="no" recvq="65536" sendq="10485760" hardsendq="10485760" softsendq="10485760" threshold="100000"
  commandrate="100000000" fakelag="no">
"#
        )
    }
}

impl Lab {
    /// Linked servers need the same modules.
    fn leaf_conf(&self) -> String {
        let Lab { leaf, servers, .. } = self;
        let dir = self.dir.path().display();
        let modules: String = MODULES.iter().map(|name| format!("<module name=\"{name}\">\n")).collect();
        format!(
            r#"<path configdir="{dir}" datadir="{dir}/leaf" logdir="{dir}/leaf" runtimedir="{dir}/leaf">
<server name="leaf.lab.test" description="leaf" network="LabNet" id="1LB">
<admin name="lab" email="lab@lab.test" nick="lab">
<options casemapping="rfc1459" prefixquit="Quit: " defaultmodes="not" allowmismatch="yes">
<security announceinvites="none" maxtargets="20">
<performance netbuffersize="10240" softlimit="2000">
<sslprofile name="lab" provider="gnutls" hash="sha256" certfile="server.pem" keyfile="server.key">
{modules}<sasl target="services.lab.test" requiressl="no">
<chanhistory maxlines="50" prefixmsg="no" bots="yes">
<websocket defaultmode="text">
<wsorigin allow="*">
<link name="irc.lab.test" ipaddr="127.0.0.1" allowmask="127.0.0.1" port="{servers}" sendpass="linkpass" recvpass="linkpass">
<autoconnect period="2s" server="irc.lab.test">
<bind address="127.0.0.1" port="{leaf}" type="clients">
<connect name="main" allow="*" resolvehostnames="no" timeout="30" pingfreq="60" localmax="1000" globalmax="1000"
  maxconnwarn="no" recvq="65536" threshold="100000" commandrate="100000000" fakelag="no">
"#
        )
    }
}

/// ngIRCd: nearly no IRCv3, no accounts, nicks of nine letters, ASCII casemapping.
pub(crate) struct OldServer {
    dir: TempDir,
    /// TLS with a certificate of the lab's own authority.
    pub(crate) tls: u16,
    /// Plain text.
    pub(crate) plain: u16,
    _server: Server,
}

impl OldServer {
    pub(crate) fn start() -> OldServer {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let [plain, tls] = free_ports();
        let chain =
            ["server.pem", "ca.pem"].map(|name| std::fs::read_to_string(dir.path().join(name)).unwrap()).concat();
        std::fs::write(dir.path().join("chain.pem"), chain).unwrap();
        let at = dir.path().display();
        let conf = format!(
            "[Global]\nName = ng.lab.test\nInfo = lab\nNetwork = NgNet\nListen = 127.0.0.1\nPorts = {plain}\n\
             MotdPhrase = \"lab\"\nPidFile =\n[Limits]\nMaxConnectionsIP = 0\nMaxJoins = 20\nMaxNickLength = 9\n\
             MaxPenaltyTime = 0\nPingTimeout = 60\nPongTimeout = 20\n[Options]\nDNS = no\nIdent = no\nPAM = no\n\
             IncludeDir = /nonexistent\n[SSL]\nCertFile = {at}/chain.pem\nKeyFile = {at}/server.key\nPorts = {tls}\n"
        );
        std::fs::write(dir.path().join("ngircd.conf"), conf).unwrap();
        let mut command = Command::new("ngircd");
        command.arg("--nodaemon").arg("--config").arg(dir.path().join("ngircd.conf"));
        let server = spawn(command, dir.path(), "ngircd.out");
        await_port(plain, &dir.path().join("ngircd.out"));
        OldServer { dir, tls, plain, _server: server }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

fn spawn(mut command: Command, dir: &Path, out: &str) -> Server {
    let path = std::env::var("PATH").unwrap_or_default();
    let log = std::fs::File::create(dir.join(out)).unwrap();
    command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin")).current_dir(dir).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn();
    Server {
        child: child.unwrap_or_else(|fault| panic!("{command:?}: {fault}; ./test installs what the stories need")),
    }
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn await_port(port: u16, log: &Path) {
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert!(start.elapsed() < PATIENCE, "the server does not listen on {port}; it said:\n{said}");
        wait(Duration::from_millis(20));
    }
}

/// Blocks; the servers are started before anything runs beside them.
#[allow(clippy::disallowed_methods)]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// An authority; a server and a client that it vouches for; a stranger.
fn certificates(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "lab authority");
    let authority = params.self_signed(&key).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (name, names) in [("server", &["localhost", "127.0.0.1"][..]), ("client", &["client.lab.test"][..])] {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &issuer).unwrap();
        save(dir, name, &cert, &key);
    }
    let key = KeyPair::generate().unwrap();
    let stranger = CertificateParams::new(vec!["wrong.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    save(dir, "stranger", &stranger, &key);
}

fn save(dir: &Path, name: &str, cert: &rcgen::Certificate, key: &KeyPair) {
    std::fs::write(dir.join(format!("{name}.pem")), cert.pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    let hex: String = Sha256::digest(cert.der()).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(dir.join(format!("{name}.fingerprint")), hex).unwrap();
}

fn services_conf(port: u16) -> String {
    let modules = [
        "protocol/inspircd",
        "backend/opensex",
        "nickserv/main",
        "nickserv/cert",
        "nickserv/identify",
        "nickserv/logout",
        "nickserv/register",
        "saslserv/main",
        "saslserv/plain",
        "saslserv/external",
        "saslserv/ecdsa-nist256p-challenge",
        "nickserv/set_core",
        "nickserv/set_pubkey",
        "nickserv/set_noop",
        "chanserv/main",
        "chanserv/register",
        "chanserv/op",
    ];
    let modules: String = modules.iter().map(|name| format!("loadmodule \"modules/{name}\";\n")).collect();
    format!(
        r#"{modules}serverinfo {{
    name = "services.lab.test"; desc = "lab services"; numeric = "00S"; recontime = 2; netname = "LabNet";
    adminname = "lab"; adminemail = "lab@lab.test"; registeremail = "lab@lab.test"; mta = "/bin/true";
    loglevel = {{ error; info; network; register; }}; maxcertfp = 0; maxlogins = 50; maxusers = 0; mdlimit = 30;
    emaillimit = 10; emailtime = 300; auth = none; casemapping = rfc1459;
}};
uplink "irc.lab.test" {{ host = "127.0.0.1"; port = {port}; send_password = "linkpass"; receive_password = "linkpass"; }};
nickserv {{ nick = "NickServ"; user = "services"; host = "services.lab.test"; real = "Nickname Services"; expire = 0; }};
chanserv {{ nick = "ChanServ"; user = "services"; host = "services.lab.test"; real = "Channel Services"; expire = 0; }};
saslserv {{ nick = "SaslServ"; user = "services"; host = "services.lab.test"; real = "SASL"; }};
general {{ commit_interval = 5; flood_msgs = 0; }};
"#
    )
}
