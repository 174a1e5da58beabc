//! Calls with types: what [`Link`] can do beyond bytes.

use std::{
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use parlour_wire::{Code, frame::ContentType, header::Fault};
use serde::{Serialize, de::DeserializeOwned};

use super::codec::{CodecError, Codecs};
use crate::{
    asked::{Ask, Asked, Progress},
    link::Link,
    port::SendError,
};

/// How long a call waits for its answer if it does not say.
const DEADLINE: Duration = Duration::from_secs(30);

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        let code = match error {
            SendError::Full => Code::OVERLOADED,
            SendError::Closed => Code::LINK_LOST,
            SendError::TooLarge => Code::TOO_LARGE,
        };
        Self::new(code, error.to_string())
    }
}

impl Link {
    /// Gives the link and its clones the user's content types. The first call counts; a station and an agent have done it.
    #[must_use]
    pub fn with_codecs(self, codecs: Codecs) -> Self {
        self.port.codecs.get_or_init(|| codecs);
        self
    }

    /// The content types of the link.
    #[must_use]
    pub fn codecs(&self) -> Codecs {
        self.port.codecs.get().cloned().unwrap_or_default()
    }

    /// Asks the peer's handler of that name. The call can be awaited for the answer ([`Call::send`] makes a future of it); it fails
    /// after 30 seconds unless it says otherwise, and dropping it cancels the request.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(link: parlour_net::Link) -> Result<(), parlour_net::Fault> {
    /// let sum: i64 = link.request("add", &(2, 3)).await?;
    /// let text = link.request::<String>("describe", &sum).deadline(Duration::from_secs(2)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn request<'a, T: DeserializeOwned>(&'a self, name: &'a str, args: &'a impl Serialize) -> Call<'a, T> {
        let codecs = self.codecs();
        let content_type = codecs.default_type();
        let content = codecs.encode(content_type, args);
        Call {
            link: self,
            name,
            args,
            codecs,
            content_type,
            content,
            deadline: Some(DEADLINE),
            watcher: None,
            answer: PhantomData,
        }
    }

    /// Sends an action to the peer's handler of that name. It leaves when the link is up; whether it arrives is not told.
    ///
    /// ```no_run
    /// # fn example(link: parlour_net::Link) -> Result<(), parlour_net::Fault> {
    /// link.action("say", &"hello")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `overloaded` if too much is under way: [`Link::send`] waits instead. `link_lost` if the link has ended, `too_large`, and
    /// `bad_request` for a value that the content type cannot hold.
    pub fn action(&self, name: &str, args: &impl Serialize) -> Result<(), Fault> {
        let codecs = self.codecs();
        let content_type = codecs.default_type();
        Ok(self.action_raw(name, content_type, codecs.encode(content_type, args)?)?)
    }

    /// As [`Link::action`], but waits while too much is under way.
    ///
    /// # Errors
    /// As [`Link::action`], without `overloaded`.
    pub async fn send(&self, name: &str, args: &(impl Serialize + Sync)) -> Result<(), Fault> {
        let codecs = self.codecs();
        let content_type = codecs.default_type();
        let content = codecs.encode(content_type, args)?;
        loop {
            match self.action_raw(name, content_type, content.clone()) {
                Err(SendError::Full) => self.ready().await?,
                taken => return Ok(taken?),
            }
        }
    }
}

/// Told how far a request has come.
type Watcher = Box<dyn FnMut(Progress) + Send>;

/// A request that has not been asked yet. Awaiting it asks, and so does [`Call::send`].
#[must_use = "nothing is asked until the call is awaited or sent"]
pub struct Call<'a, T> {
    link: &'a Link,
    name: &'a str,
    args: &'a dyn erased_serde::Serialize,
    codecs: Codecs,
    content_type: ContentType,
    content: Result<Bytes, CodecError>,
    deadline: Option<Duration>,
    watcher: Option<Watcher>,
    answer: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("name", &self.name).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl<'a, T: DeserializeOwned> Call<'a, T> {
    /// How long to wait for the answer, from asking on; the handler is told. Also while the link is down.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Waits as long as the session lives.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// Writes the arguments in this content type; the answer comes back in the same one.
    pub fn content_type(mut self, content_type: ContentType) -> Self {
        if content_type != self.content_type {
            self.content_type = content_type;
            self.content = self.codecs.encode(content_type, self.args);
        }
        self
    }

    /// Has `watcher` told how far the handler has come, whenever it says so. Of reports in quick succession the last counts.
    ///
    /// ```no_run
    /// # async fn example(link: parlour_net::Link) -> Result<(), parlour_net::Fault> {
    /// let digest: String = link.request("hash", &"/var/log/syslog").on_progress(|at| println!("{} bytes", at.done)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_progress(mut self, watcher: impl FnMut(Progress) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// Asks at once; the answer may be awaited later, or somewhere else.
    ///
    /// ```no_run
    /// # async fn example(link: parlour_net::Link) -> Result<(), parlour_net::Fault> {
    /// let (left, right) = (link.request::<u64>("count", &"left").send(), link.request::<u64>("count", &"right").send());
    /// let both = left.await? + right.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send(self) -> Reply<T> {
        self.ask(Link::ask)
    }

    fn ask(self, ask: fn(&Link, Ask) -> Asked) -> Reply<T> {
        let asked = self.content.map_err(Fault::from).map(|content| {
            let (name, content_type) = (self.name.to_owned(), self.content_type);
            ask(self.link, Ask { name, content_type, content, timeout: self.deadline, origin: None })
        });
        Reply { asked: asked.map_err(Some), codecs: self.codecs, watcher: self.watcher, seen: None, answer: PhantomData }
    }
}

impl<T: DeserializeOwned> IntoFuture for Call<'_, T> {
    type Output = Result<T, Fault>;
    type IntoFuture = Reply<T>;

    fn into_future(self) -> Reply<T> {
        self.ask(Link::ask_awaited)
    }
}

/// The answer of a request that has been asked. Dropping it cancels the request.
///
/// It fails with the fault of the peer; with `timed_out` after its deadline; with `link_lost` if the session ended before the
/// answer, and the link does not ask again in the next one; with `incompatible` if the answer is not a `T`.
#[must_use = "dropping it cancels the request"]
pub struct Reply<T> {
    asked: Result<Asked, Option<Fault>>,
    codecs: Codecs,
    watcher: Option<Watcher>,
    seen: Option<Progress>,
    answer: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl<T> Reply<T> {
    /// The last that the handler said about how far it has come.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.asked.as_ref().ok().and_then(Asked::progress)
    }
}

impl<T: DeserializeOwned> Future for Reply<T> {
    type Output = Result<T, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let asked = match &mut this.asked {
            Ok(asked) => asked,
            Err(fault) => return Poll::Ready(Err(fault.take().expect("a future is not polled after it is ready"))),
        };
        let polled = Pin::new(&mut *asked).poll(cx);
        if let Some(watcher) = &mut this.watcher
            && let Some(progress) = asked.progress()
            && this.seen != Some(progress)
        {
            this.seen = Some(progress);
            watcher(progress);
        }
        polled.map(|result| {
            let answer = result?;
            let wrong =
                |error: CodecError| Fault::new(Code::INCOMPATIBLE, format!("the answer is not of the expected type: {error}"));
            this.codecs.decode(answer.content_type, &answer.content).map_err(wrong)
        })
    }
}
