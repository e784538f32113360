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

fn fault_of(fault: &Error) -> SourceError {
    // The driver's words may hold the address it was given, never the password.
    match &*fault.kind {
        ErrorKind::Command(told) => SourceError::Wrong(format!("{} ({})", told.message, told.code_name)),
        ErrorKind::Authentication { message, .. } => SourceError::Wrong(format!("{message}; look at the url")),
        ErrorKind::InvalidArgument { message, .. } => SourceError::Wrong(message.clone()),
        kind => SourceError::Lost(kind.to_string()),
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

    #[test]
    fn an_address_that_has_to_be_looked_up_is_refused_with_what_to_write_instead() {
        let database =
            serde_json::from_value(serde_json::json!({"url": "mongodb+srv://chief:pw@cluster/shop"})).unwrap();
        let fault = Mongo::new(&database, &FindSettings::default(), false).err().unwrap();
        assert!(fault.contains("mongodb://one,two,three/shop") && !fault.contains("pw"), "{fault}");
    }
}
