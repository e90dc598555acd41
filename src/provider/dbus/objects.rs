//! The objects on the bus. Each is made for the call that names it, so that their number costs nothing.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::message::{Flags, Header};
use zbus::names::InterfaceName;
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, Message, ObjectServer, OwnedVariant, fdo};

use super::authorization::Action;
use super::introspection::{self, INTROSPECTABLE, PEER, PROPERTIES};
use super::manager::Manager;
use super::path::Node;
use super::secret::SecretObject;
use super::source::SourceObject;
use super::{Desk, path};
use crate::domain::name::SourceName;

/// An object and its interface.
enum Object {
    Manager(Manager),
    Secret(SecretObject),
    Source(SourceObject),
}

impl Object {
    fn of(desk: &Arc<Desk>, node: &Node) -> Option<Self> {
        let desk = Arc::clone(desk);
        match node {
            Node::Manager => Some(Self::Manager(Manager::new(desk))),
            Node::Secret(name) => Some(Self::Secret(SecretObject::new(desk, name.clone()))),
            Node::Source(name) => {
                let name = SourceName::parse(name).ok()?;
                Some(Self::Source(SourceObject::new(desk, name)))
            }
            Node::Above(_) | Node::Secrets | Node::Sources => None,
        }
    }

    fn interface(&self) -> &dyn Interface {
        match self {
            Self::Manager(it) => it,
            Self::Secret(it) => it,
            Self::Source(it) => it,
        }
    }

    fn name(&self) -> InterfaceName<'static> {
        match self {
            Self::Manager(_) => Manager::name(),
            Self::Secret(_) => SecretObject::name(),
            Self::Source(_) => SourceObject::name(),
        }
    }
}

/// Calls objects.
pub(super) struct Objects {
    pub(super) desk: Arc<Desk>,
    pub(super) connection: Connection,
    /// An argument that the interfaces' generated code requires and does not use. It belongs to another connection, because an object server
    /// answers all calls on its own connection.
    pub(super) server: ObjectServer,
}

impl Objects {
    /// Calls a method and sends the reply. The error is to be sent by the caller.
    pub(super) async fn call(&self, message: &Message) -> Result<(), BoxDBusError> {
        let header = message.header();
        let (Some(path), Some(interface), Some(member)) =
            (header.path(), header.interface(), header.member())
        else {
            return Err(fdo::Error::InvalidArgs("the call names no path, interface or method".into()).into());
        };
        let unknown_method = || fdo::Error::UnknownMethod(format!("no method {interface}.{member}"));
        if interface == PEER {
            return match member.as_str() {
                "Ping" => self.reply(&header, &()).await,
                "GetMachineId" => self.reply(&header, &introspection::machine_id().await?).await,
                _ => Err(unknown_method().into()),
            };
        }
        let unknown_object = || fdo::Error::UnknownObject(format!("no object {path}"));
        let node = Node::at(path.as_str()).ok_or_else(unknown_object)?;
        if [INTROSPECTABLE, PROPERTIES].contains(&interface.as_str()) && !self.exists(&node, &header).await? {
            return Err(unknown_object().into());
        }
        let object = Object::of(&self.desk, &node);
        match (interface.as_str(), member.as_str()) {
            (INTROSPECTABLE, "Introspect") => {
                let below = self.names_below(&node, &header).await?;
                let own = object.as_ref().map(Object::interface);
                self.reply(&header, &introspection::document(own, &below)).await
            }
            (PROPERTIES, member) => self.property(object.as_ref(), member, message, &header).await,
            _ => {
                let object = object.filter(|object| object.name() == *interface);
                let object = object.ok_or_else(|| no_interface(interface.as_str()))?;
                let called =
                    object.interface().call(&self.server, &self.connection, message, member.as_ref());
                match called {
                    DispatchResult::Async(answer) => answer.await,
                    DispatchResult::NotFound | DispatchResult::RequiresMut => Err(unknown_method().into()),
                }
            }
        }
    }

    /// Whether a node exists, as far as the caller may know. A caller who may not see it is refused in the same way whether it exists or not.
    async fn exists(&self, node: &Node, header: &Header<'_>) -> Result<bool, BoxDBusError> {
        let active = self.desk.context.config.get();
        let secret = match node {
            Node::Secret(name) => active.secret(name),
            Node::Source(_) => None,
            Node::Above(_) | Node::Manager | Node::Secrets | Node::Sources => return Ok(true),
        };
        let caller = self.desk.caller(header).await?;
        let is_source = |name: &str| active.settings.sources.keys().any(|source| source.as_str() == name);
        let exists = match node {
            Node::Source(name) => is_source(name),
            _ => secret.is_some(),
        };
        if secret.is_some_and(|secret| caller.owns(secret, &active.settings.policy)) {
            return Ok(true);
        }
        let may_inspect = caller.may(Action::Inspect, header, &self.desk.link).await.is_ok();
        Ok(exists || !may_inspect)
    }

    /// The names below a node that the caller may see.
    async fn names_below(&self, node: &Node, header: &Header<'_>) -> Result<Vec<String>, BoxDBusError> {
        let caller = match node {
            Node::Above(name) => return Ok(vec![(*name).to_owned()]),
            Node::Manager => return Ok(vec!["secret".to_owned(), "source".to_owned()]),
            Node::Secret(_) | Node::Source(_) => return Ok(Vec::new()),
            Node::Secrets | Node::Sources => self.desk.caller(header).await?,
        };
        let may_inspect = caller.may(Action::Inspect, header, &self.desk.link).await.is_ok();
        let active = self.desk.context.config.get();
        Ok(match node {
            Node::Sources if may_inspect => {
                active.settings.sources.keys().map(|name| path::escape(name.as_str())).collect()
            }
            Node::Sources => Vec::new(),
            _ => caller.visible(&active.settings.policy).map(path::escape).collect(),
        })
    }

    /// Answers a call of the interface of properties.
    async fn property(
        &self,
        object: Option<&Object>,
        member: &str,
        message: &Message,
        header: &Header<'_>,
    ) -> Result<(), BoxDBusError> {
        let invalid = |error: zbus::Error| fdo::Error::InvalidArgs(error.to_string());
        let body = message.body();
        let of = |name: &str| {
            object.filter(|object| object.name().as_str() == name).ok_or_else(|| no_interface(name))
        };
        let path = header.path().ok_or_else(|| fdo::Error::Failed("the call names no path".into()))?;
        let emitter = SignalEmitter::new(&self.connection, path)?;
        match member {
            "Get" => {
                let (interface, name): (&str, &str) = body.deserialize().map_err(invalid)?;
                let object = of(interface)?.interface();
                let value = object.get(name, &self.server, &self.connection, Some(header), &emitter).await;
                let unknown = || fdo::Error::UnknownProperty(format!("no property {interface}.{name}"));
                let value: OwnedVariant = value.ok_or_else(unknown)??;
                self.reply(header, &value).await
            }
            "GetAll" => {
                let interface: &str = body.deserialize().map_err(invalid)?;
                let object = of(interface)?.interface();
                let all = object.get_all(&self.server, &self.connection, Some(header), &emitter).await;
                let all: HashMap<String, OwnedVariant> = all?;
                self.reply(header, &all).await
            }
            "Set" => Err(fdo::Error::PropertyReadOnly("all properties are read-only".into()).into()),
            _ => Err(fdo::Error::UnknownMethod(format!("no method {PROPERTIES}.{member}")).into()),
        }
    }

    async fn reply<B>(&self, header: &Header<'_>, body: &B) -> Result<(), BoxDBusError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        if header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
            return Ok(());
        }
        Ok(self.connection.reply(header, body).await?)
    }
}

fn no_interface(name: &str) -> fdo::Error {
    fdo::Error::UnknownInterface(format!("no interface {name} at this object"))
}
