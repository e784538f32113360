//! One connection to MongoDB: documents as JSON, and a change stream that wakes.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use masterchief_contract::{SourceError, Value};
use mongodb::bson::{Bson, Document, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, SelectionCriteria};
use mongodb::{Client, Collection};

use super::settings::{DatabaseSettings, FindSettings};
use crate::faults::lost;

/// What is asked of which collection.
pub(super) struct Mongo {
    url: String,
    timeout: Duration,
    find: FindSettings,
    filter: Document,
    watch: bool,
    open: Option<Collection<Document>>,
    stream: Option<ChangeStream<ChangeStreamEvent<Document>>>,
}

/// JSON as BSON; extended JSON (`{"$oid": "…"}`) means what it says.
fn bson(value: &Value) -> Result<Bson, String> {
    Bson::try_from(value.clone()).map_err(|fault| fault.to_string())
}

/// Codes for which somebody has to change something: the query, a name, a right. The rest may pass: a primary that is gone, a server
/// that begins or ends, a question that took too long.
const WRONG: [i32; 18] = [
    2,    // BadValue
    9,    // FailedToParse
    11,   // UserNotFound
    13,   // Unauthorized
    14,   // TypeMismatch
    18,   // AuthenticationFailed
    26,   // NamespaceNotFound
    31,   // RoleNotFound
    59,   // CommandNotFound
    72,   // InvalidOptions
    73,   // InvalidNamespace
    115,  // CommandNotSupported
    166,  // CommandNotSupportedOnView
    168,  // InvalidPipelineOperator
    224,  // QueryFeatureNotAllowed
    238,  // NotImplemented
    241,  // ConversionFailure
    8000, // Atlas: the user, or what they may
];

fn fault_of(fault: &Error) -> SourceError {
    // The driver's words may hold the address it was given, never the password.
    match &*fault.kind {
        ErrorKind::Command(told) => {
            let text = format!("{} ({})", told.message, told.code_name);
            // What has no name of its own is called after the line of the server that refuses a query.
            let wrong = WRONG.contains(&told.code) || told.code_name.starts_with("Location");
            if wrong { SourceError::Wrong(text) } else { SourceError::Lost(text) }
        }
        ErrorKind::Authentication { message, .. } => SourceError::Wrong(format!("{message}; look at the url")),
        ErrorKind::InvalidArgument { message, .. }
        | ErrorKind::InvalidTlsConfig { message, .. }
        | ErrorKind::IncompatibleServer { message, .. } => SourceError::Wrong(message.clone()),
        kind => lost(kind),
    }
}

impl Mongo {
    pub(super) fn new(database: &DatabaseSettings, find: &FindSettings, watch: bool) -> Result<Mongo, String> {
        let url = database.url.reveal();
        if url.starts_with("mongodb+srv://") {
            let text = "mongodb+srv:// is not understood: write the hosts that stand behind it, as in \
                        mongodb://one,two,three/shop?replicaSet=rs0&tls=true";
            return Err(text.to_owned());
        }
        if !url.starts_with("mongodb://") {
            return Err("the url is of the form mongodb://user:password@host/database".to_owned());
        }
        let filter = match bson(&find.filter).map_err(|fault| format!("filter: {fault}"))? {
            Bson::Document(filter) => filter,
            Bson::Null => Document::new(),
            _ => return Err("filter: this is no document".to_owned()),
        };
        Ok(Mongo {
            url: url.to_owned(),
            timeout: database.timeout,
            find: find.clone(),
            filter,
            watch,
            open: None,
            stream: None,
        })
    }

    pub(super) async fn open(&mut self) -> Result<(), SourceError> {
        self.stream = None;
        let mut options = ClientOptions::parse(&self.url).await.map_err(|_| {
            SourceError::Wrong("the url is not of the form mongodb://user:password@host/database".into())
        })?;
        options.app_name = Some("masterchief".to_owned());
        options.connect_timeout = Some(self.timeout);
        options.server_selection_timeout = Some(self.timeout);
        let preference = options.selection_criteria.take();
        // Reading is all that is done; a secondary will do.
        options.selection_criteria = Some(preference.unwrap_or(SelectionCriteria::ReadPreference(
            mongodb::options::ReadPreference::PrimaryPreferred { options: None },
        )));
        let client = Client::with_options(options).map_err(|fault| fault_of(&fault))?;
        let Some(database) = client.default_database() else {
            return Err(SourceError::Wrong("name the database in the url, as in mongodb://host/shop".to_owned()));
        };
        let collection = database.collection::<Document>(&self.find.collection);
        if self.watch {
            self.stream = Some(collection.watch().await.map_err(|fault| fault_of(&fault))?);
        }
        self.open = Some(collection);
        Ok(())
    }

    /// Ready when something in the collection changed.
    pub(super) async fn woken(&mut self) -> Result<(), SourceError> {
        let Some(stream) = &mut self.stream else { return std::future::pending().await };
        match stream.next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(fault)) => Err(fault_of(&fault)),
            None => Err(SourceError::Lost("the change stream ended".to_owned())),
        }
    }

    /// The documents that fit, at most `most`: those behind the cursor in its order, or all.
    pub(super) async fn ask(&mut self, cursor: Option<(&str, &Value)>, most: usize) -> Result<Vec<Value>, SourceError> {
        let collection = self.open.as_ref().ok_or_else(|| SourceError::Lost("it is not open".to_owned()))?;
        let mut filter = self.filter.clone();
        if let Some((column, value)) = cursor.filter(|(_, value)| !value.is_null()) {
            let behind = doc! { column: { "$gt": bson(value).map_err(SourceError::Wrong)? } };
            filter = if filter.is_empty() {
                behind
            } else {
                doc! { "$and": [filter, behind] }
            };
        }
        let mut find = collection.find(filter).limit(i64::try_from(most).unwrap_or(i64::MAX)).max_time(self.timeout);
        if let Some((column, _)) = cursor {
            find = find.sort(doc! { column: 1 });
        }
        if !self.find.fields.is_empty() {
            find = find
                .projection(self.find.fields.iter().map(|field| (field.clone(), Bson::Int32(1))).collect::<Document>());
        }
        let found = find.await.map_err(|fault| fault_of(&fault))?;
        let rows = found.map_ok(|row| Bson::Document(row).into_relaxed_extjson()).try_collect().await;
        rows.map_err(|fault| fault_of(&fault))
    }

    pub(super) fn close(&mut self) {
        (self.stream, self.open) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What MongoDB would say.
    fn told(code: i32, name: &str) -> SourceError {
        let told = serde_json::json!({"code": code, "codeName": name, "errmsg": "so it is"});
        fault_of(&ErrorKind::Command(serde_json::from_value(told).unwrap()).into())
    }

    #[test]
    fn a_primary_that_is_gone_passes_and_a_query_that_is_none_does_not() {
        for (code, name) in [
            (6, "HostUnreachable"),
            (7, "HostNotFound"),
            (43, "CursorNotFound"),
            (50, "MaxTimeMSExpired"),
            (89, "NetworkTimeout"),
            (91, "ShutdownInProgress"),
            (112, "WriteConflict"),
            (133, "FailedToSatisfyReadPreference"),
            (134, "ReadConcernMajorityNotAvailableYet"),
            (175, "QueryPlanKilled"),
            (189, "PrimarySteppedDown"),
            (211, "KeyNotFound"),
            (237, "CursorKilled"),
            (262, "ExceededTimeLimit"),
            (280, "ChangeStreamFatalError"),
            (286, "ChangeStreamHistoryLost"),
            (391, "ReauthenticationRequired"),
            (9001, "SocketException"),
            (10058, "LegacyNotPrimary"),
            (10107, "NotWritablePrimary"),
            (11600, "InterruptedAtShutdown"),
            (11602, "InterruptedDueToReplStateChange"),
            (13435, "NotPrimaryNoSecondaryOk"),
            (13436, "NotPrimaryOrSecondary"),
        ] {
            assert_eq!(told(code, name), SourceError::Lost(format!("so it is ({name})")), "{code}");
        }
        for (code, name) in [
            (2, "BadValue"),
            (13, "Unauthorized"),
            (18, "AuthenticationFailed"),
            (59, "CommandNotFound"),
            (73, "InvalidNamespace"),
            (8000, "AtlasError"),
            (40573, "Location40573"),
        ] {
            assert_eq!(told(code, name), SourceError::Wrong(format!("so it is ({name})")), "{code}");
        }
        let io = |kind: std::io::ErrorKind| fault_of(&ErrorKind::Io(std::sync::Arc::new(kind.into())).into());
        for kind in
            [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::TimedOut, std::io::ErrorKind::UnexpectedEof]
        {
            assert!(matches!(io(kind), SourceError::Lost(_)), "{kind}");
        }
        assert!(matches!(fault_of(&ErrorKind::Shutdown.into()), SourceError::Lost(_)));
    }

    #[test]
    fn an_address_that_has_to_be_looked_up_is_refused_with_what_to_write_instead() {
        let database =
            serde_json::from_value(serde_json::json!({"url": "mongodb+srv://chief:pw@cluster/shop"})).unwrap();
        let fault = Mongo::new(&database, &FindSettings::default(), false).err().unwrap();
        assert!(fault.contains("mongodb://one,two,three/shop") && !fault.contains("pw"), "{fault}");
    }
}
