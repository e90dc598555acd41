//! The introspection of objects, and the interfaces that all of them have.

use std::fmt::Write as _;

use zbus::fdo;
use zbus::object_server::Interface;

/// The interface for introspection.
pub(super) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
/// The interface by which properties are read.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// The interface that every process on the bus has.
pub(super) const PEER: &str = "org.freedesktop.DBus.Peer";

const HEAD: &str = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node>
"#;

/// The standard interfaces; see the D-Bus specification.
const STANDARD: &str = r#"  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg type="v" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg type="a{sv}" direction="out"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"#;

/// The document of an object: its own interface, if it has one, and the names below it. Each of these has its own document.
pub(super) fn document(own: Option<&dyn Interface>, below: &[String]) -> String {
    let mut document = String::from(HEAD);
    document.push_str(STANDARD);
    if let Some(own) = own {
        own.introspect_to_writer(&mut document, 2);
    }
    for name in below {
        let _ = writeln!(document, "  <node name=\"{name}\"/>"); // a String takes everything
    }
    document.push_str("</node>\n");
    document
}

/// The ID of this machine.
pub(super) async fn machine_id() -> fdo::Result<String> {
    let read = tokio::task::spawn_blocking(|| std::fs::read_to_string("/etc/machine-id")).await;
    let failed = |error: String| fdo::Error::Failed(format!("/etc/machine-id: {error}"));
    let text = read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object with an interface.
    struct Example;

    #[zbus::interface(name = "org.onecred.Example")]
    impl Example {
        fn first(&self) {}
    }

    #[test]
    fn a_document_has_the_interfaces_of_its_object_and_names_what_is_below() {
        const STANDARD: [&str; 3] = [INTROSPECTABLE, PEER, PROPERTIES];
        let below = ["db_2dpassword".to_owned(), "x".to_owned()];
        for (own, below) in [(None, &below[..]), (Some(&Example as &dyn Interface), &below[..0])] {
            let document = document(own, below);
            assert!(document.starts_with("<!DOCTYPE node PUBLIC "), "{document}");
            let names = document.split("<interface name=\"").skip(1);
            let names: Vec<&str> = names.filter_map(|rest| rest.split('"').next()).collect();
            let own_names: &[&str] = if own.is_some() { &["org.onecred.Example"] } else { &[] };
            assert_eq!(names, [&STANDARD[..], own_names].concat());
            assert_eq!(names.len(), document.matches("</interface>").count());
            assert_eq!(document.matches("<method name=\"First\"").count(), own_names.len(), "{document}");
            let nodes: Vec<&str> = document.lines().filter(|line| line.contains("<node name")).collect();
            let expected = ["  <node name=\"db_2dpassword\"/>", "  <node name=\"x\"/>"];
            assert_eq!(nodes, expected[..below.len()]);
            assert!(document.ends_with("\n</node>\n") && document.matches("\n<node>\n").count() == 1);
        }
    }

    #[tokio::test]
    async fn the_machine_id_is_that_of_the_file() {
        let file = std::fs::read_to_string("/etc/machine-id").map(|text| text.trim().to_owned());
        assert_eq!(machine_id().await.ok(), file.ok());
    }
}
