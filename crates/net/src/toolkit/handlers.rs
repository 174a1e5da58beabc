//! The registry of handlers: functions by name, typed by serde, each with its access rule.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use futures_util::future::BoxFuture;
use parlour_proto::link::Answer;
use parlour_wire::{Code, header::Fault, limits};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    access::Access,
    codec::{Codecs, Raw},
    context::Context,
};

/// Names that begin so are the library's own.
pub(crate) const RESERVED: &str = "parlour.";

/// What an agent says when a session begins: a session in which its client says nothing ends with its connection.
pub(crate) const HERE: &str = "parlour.here";

/// A fault for a handler to answer with.
///
/// ```
/// use parlour_net::{Code, Handlers, refuse};
///
/// let mut handlers = Handlers::new();
/// handlers.on_request("divide", |_cx, (a, b): (i64, i64)| async move {
///     a.checked_div(b).ok_or_else(|| refuse(Code::BAD_REQUEST, "division by zero"))
/// });
/// ```
#[must_use]
pub fn refuse(code: Code, text: impl Into<String>) -> Fault {
    Fault::new(code, text)
}

/// Handles content of any type.
pub(crate) type Run = dyn Fn(Context, &Codecs, Raw) -> BoxFuture<'static, Result<Answer, Fault>> + Send + Sync;

/// A registered handler.
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    /// Whether it handles actions; else requests.
    pub(crate) action: bool,
    pub(crate) access: Option<Access>,
    pub(crate) run: Box<Run>,
}

/// What one end of a link does for the other: functions by name.
///
/// A handler is an async closure of a [`Context`] and its arguments, any type that serde can read; several arguments are a tuple.
/// Who may call it is said by the [`Rule`] that registering gives; without a word nobody may, or whoever
/// [`Handlers::allow_by_default`] says.
///
/// Handlers of one peer start in the order in which its messages arrive. A handler of an action comes to its end before the next
/// message's handler starts; handlers of requests run side by side. They run on the task of their link, as is usual in async
/// Rust: work that keeps a core busy belongs on [`tokio::task::spawn_blocking`]. A handler that panics answers `internal`, and
/// the link lives on.
///
/// ```
/// use parlour_net::{Access, Handlers};
///
/// let mut handlers = Handlers::new();
/// handlers.on_request("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) }).allow(Access::Anyone);
/// handlers.on_action("log", |cx, line: String| async move { println!("{:?} says {line}", cx.peer().key()) });
/// ```
#[derive(Default)]
pub struct Handlers {
    entries: BTreeMap<Arc<str>, Entry>,
    default: Access,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("names", &self.entries.keys()).field("default", &self.default).finish()
    }
}

/// Says who may call the handler that has just been registered.
#[derive(Debug)]
pub struct Rule<'h> {
    access: &'h mut Option<Access>,
}

impl Rule<'_> {
    /// Who may call the handler.
    pub fn allow(self, access: Access) {
        *self.access = Some(access);
    }
}

impl Handlers {
    /// No handlers, and a default that lets nobody call.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Who may call the handlers that have no rule of their own, registered before or after.
    pub fn allow_by_default(&mut self, access: Access) {
        self.default = access;
    }

    /// Answers requests of this name. The answer is any type that serde can write; it goes back in the content type of the
    /// request. The error is a [`Fault`], or with `?` whatever becomes one: implement `From<YourError> for Fault`.
    ///
    /// ```
    /// use parlour_net::{Code, Fault, Handlers, refuse};
    ///
    /// struct NoSuchDrone(u32);
    ///
    /// impl From<NoSuchDrone> for Fault {
    ///     fn from(NoSuchDrone(number): NoSuchDrone) -> Self {
    ///         refuse(Code::DEVICE_NOT_FOUND, format!("no drone {number}"))
    ///     }
    /// }
    ///
    /// fn battery(drone: u32) -> Result<f64, NoSuchDrone> {
    ///     if drone < 12 { Ok(0.8) } else { Err(NoSuchDrone(drone)) }
    /// }
    ///
    /// let mut handlers = Handlers::new();
    /// handlers.on_request("battery", |_cx, drone: u32| async move { Ok(battery(drone)?) });
    /// ```
    ///
    /// # Panics
    /// If the name is empty, longer than 128 bytes, taken, or begins with `parlour.`: those are the library's own.
    pub fn on_request<A, T, F, Fut>(&mut self, name: &str, handler: F) -> Rule<'_>
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        F: Fn(Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        self.add(free(name), false, typed(handler))
    }

    /// Takes actions of this name. A request of the name is taken too: it is answered with nothing when the handler is done.
    ///
    /// # Panics
    /// As [`Handlers::on_request`].
    pub fn on_action<A, F, Fut>(&mut self, name: &str, handler: F) -> Rule<'_>
    where
        A: DeserializeOwned + Send + 'static,
        F: Fn(Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.add(
            free(name),
            true,
            Box::new(move |cx, codecs, Raw { content_type, content }| {
                let (handler, codecs) = (Arc::clone(&handler), codecs.clone());
                Box::pin(async move {
                    let args = codecs.decode(content_type, &content)?;
                    drop(content);
                    handler(cx, args).await;
                    Ok(Raw::EMPTY.into())
                })
            }),
        )
    }

    /// Answers requests of this name with content that the handler codes itself.
    ///
    /// # Panics
    /// As [`Handlers::on_request`].
    pub fn on_request_raw<F, Fut>(&mut self, name: &str, handler: F) -> Rule<'_>
    where
        F: Fn(Context, Raw) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Raw, Fault>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.add(
            free(name),
            false,
            Box::new(move |cx, _, raw| {
                let handler = Arc::clone(&handler);
                Box::pin(async move { Ok(handler(cx, raw).await?.into()) })
            }),
        )
    }

    /// Takes actions of this name whose content the handler reads itself.
    ///
    /// # Panics
    /// As [`Handlers::on_request`].
    pub fn on_action_raw<F, Fut>(&mut self, name: &str, handler: F) -> Rule<'_>
    where
        F: Fn(Context, Raw) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.add(
            free(name),
            true,
            Box::new(move |cx, _, raw| {
                let handler = Arc::clone(&handler);
                Box::pin(async move {
                    handler(cx, raw).await;
                    Ok(Raw::EMPTY.into())
                })
            }),
        )
    }

    /// A handler of the library itself, under a reserved name.
    pub(crate) fn on_own_request<A, T, F, Fut>(&mut self, name: &str, handler: F) -> Rule<'_>
    where
        A: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
        F: Fn(Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        assert!(name.starts_with(RESERVED), "{name:?} is not one of the library's own names");
        self.add(name, false, typed(handler))
    }

    /// As [`Handlers::on_request_raw`], for a handler of the library itself.
    pub(crate) fn on_own_request_raw<F, Fut>(&mut self, name: &str, handler: F) -> Rule<'_>
    where
        F: Fn(Context, Raw) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Raw, Fault>> + Send + 'static,
    {
        assert!(name.starts_with(RESERVED), "{name:?} is not one of the library's own names");
        let handler = Arc::new(handler);
        self.add(
            name,
            false,
            Box::new(move |cx, _, raw| {
                let handler = Arc::clone(&handler);
                Box::pin(async move { Ok(handler(cx, raw).await?.into()) })
            }),
        )
    }

    fn add(&mut self, name: &str, action: bool, run: Box<Run>) -> Rule<'_> {
        assert!(
            !name.is_empty() && name.len() <= limits::LABEL,
            "the name {name:?} is empty, or longer than {} bytes",
            limits::LABEL
        );
        assert!(!self.entries.contains_key(name), "there is a handler {name:?} already");
        let name: Arc<str> = name.into();
        let entry = Entry { name: Arc::clone(&name), action, access: None, run };
        Rule { access: &mut self.entries.entry(name).or_insert(entry).access }
    }
}

fn free(name: &str) -> &str {
    assert!(!name.starts_with(RESERVED), "{name:?} is one of the library's own names");
    name
}

fn typed<A, T, F, Fut>(handler: F) -> Box<Run>
where
    A: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Fault>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |cx, codecs, Raw { content_type, content }| {
        let (handler, codecs) = (Arc::clone(&handler), codecs.clone());
        Box::pin(async move {
            let args = codecs.decode(content_type, &content)?;
            drop(content);
            let value = handler(cx, args).await?;
            Ok(Answer { content_type, content: codecs.encode(content_type, &value)? })
        })
    })
}

/// The handlers of a program as its links look them up.
pub(crate) struct Registry {
    handlers: Handlers,
    pub(crate) codecs: Codecs,
}

impl Registry {
    pub(crate) fn new(handlers: Handlers, codecs: Codecs) -> Self {
        Self { handlers, codecs }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.handlers.entries.get(name)
    }

    pub(crate) fn access<'r>(&'r self, entry: &'r Entry) -> &'r Access {
        entry.access.as_ref().unwrap_or(&self.handlers.default)
    }
}
