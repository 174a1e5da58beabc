//! `recovery-code`, `recover`, `draft`.

use parlour_client::{Client, Recover};
use serde_json::json;

use super::{
    account::{settled, welcome},
    args::{DraftArgs, RecoverArgs, RecoveryCodeArgs},
    errors::Failure,
    output::plain,
    profile::{CONNECT, Session, closed, with_client, with_secret},
    secret,
};

pub(crate) async fn code(args: RecoveryCodeArgs, session: &Session) -> Result<(), Failure> {
    let ask = async || secret::password(args.password.password_stdin).await;
    let code =
        with_secret(session, ask, async |client: &Client, password| Ok(client.make_recovery_code(password).await?)).await?;
    session.output.row(&json!({"code": *code}), |output| output.bold(&code))?;
    session.output.note(
        "note: write it down and keep it away from your devices; it is not shown again, and the code before it is worthless now.\n      \
         Whoever has it and your name can take the account over. `parlour recover` uses it.",
    );
    Ok(())
}

pub(crate) async fn recover(args: RecoverArgs, session: &Session) -> Result<(), Failure> {
    let (code, password) = secret::recovery(args.code_stdin, args.password_stdin).await?;
    let client = session.open_or_make(args.make.passphrase)?;
    let (server, name, label, keep_devices) = (args.server, args.name, args.make.device, args.keep_devices);
    let request = Recover { server, name, code, password, label, keep_devices };
    let outcome = settled(&client, client.recover(request).await).await;
    let signed_in = closed(&client, outcome).await?;
    welcome(&signed_in, "recovered", &session.output)?;
    if !keep_devices {
        session.output.note(
            "note: the account's other devices have been ended. The recovery code is still good; `parlour recovery-code` makes\n      \
             a new one.",
        );
    }
    Ok(())
}

pub(crate) async fn draft(args: DraftArgs, session: &Session) -> Result<(), Failure> {
    let DraftArgs { to, text, clear } = args;
    let text = with_client(session, async |client: &Client| {
        if clear || !text.is_empty() {
            client.set_draft(&to, &text.join(" ")).await?;
        } else {
            // What another device has kept meanwhile.
            let _ = client.wait_synced(CONNECT).await;
        }
        Ok(client.draft(&to).await?)
    })
    .await?;
    session.output.row(&json!({"to": to, "draft": text}), |_| plain(&text).to_string())
}
