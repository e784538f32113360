//! Reading settings out of a tree: every error says where, and what was probably meant.

use std::fmt;

use masterchief_contract::closest;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::map::Entry;
use super::tree::{ConfigFault, Node, Spot, What};

/// Reads a value of this type.
pub fn read<T: DeserializeOwned>(node: &Node) -> Result<T, ConfigFault> {
    T::deserialize(From(node)).map_err(|fault| fault.0)
}

/// An error on its way out; the innermost place counts.
#[derive(Debug)]
struct Fault(ConfigFault);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault(ConfigFault { spot: None, message: message.to_string() })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Fault {
        Fault::custom(match closest(field, expected.iter().copied()) {
            Some(close) => format!("there is no key {field:?}; did you mean {close:?}?"),
            None => format!("there is no key {field:?} here; there are {}", expected.join(", ")),
        })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Fault {
        Fault::custom(match closest(variant, expected.iter().copied()) {
            Some(close) => format!("{variant:?} is none of the choices; did you mean {close:?}?"),
            None => format!("{variant:?} is none of {}", expected.join(", ")),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        let wanted = expected.to_string();
        let wanted = if wanted.contains("duration") { "a time such as 10s or 1h30m" } else { &wanted };
        Fault::custom(format!("{found} is not {wanted}"))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::invalid_value(found, expected)
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::custom(format!("the key {field:?} is missing"))
    }
}

impl Fault {
    /// What came from outside the file is not repeated in an error.
    fn about(self, node: &Node) -> Fault {
        let fault = match node.what {
            What::Secret(_) => Fault::custom("the value that ${...} stands for does not fit here"),
            _ => self,
        };
        fault.at(&node.spot)
    }

    fn at(mut self, spot: &Spot) -> Fault {
        self.0.spot.get_or_insert_with(|| spot.clone());
        self
    }
}

/// A deserializer over a part of a tree.
struct From<'a>(&'a Node);

impl<'a> From<'a> {
    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.what {
            What::Null => visitor.visit_unit(),
            What::Bool(value) => visitor.visit_bool(*value),
            What::Int(value) => visitor.visit_i64(*value),
            What::Number(value) => visitor.visit_f64(*value),
            What::Text(text) => visitor.visit_str(text),
            What::Secret(text) => visitor.visit_str(text),
            What::List(list) => visitor.visit_seq(Items { items: list.iter() }),
            What::Map(map) => visitor.visit_map(Entries { entries: map.iter(), value: None }),
        }
    }
}

impl<'de> serde::Deserializer<'de> for From<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let spot = &self.0.spot;
        let node = self.0;
        self.any(visitor).map_err(|fault| fault.about(node).at(spot))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if matches!(self.0.what, What::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A number or a truth where words are wanted is a slip that YAML invites: `nick: 007`, `username: on`.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let spot = &self.0.spot;
        if matches!(self.0.what, What::Bool(_) | What::Int(_) | What::Number(_)) {
            return Err(
                Fault::custom("this is a text: write it in quotes, and a time with its unit, as in \"2s\"").at(spot)
            );
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_string(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let spot = &self.0.spot;
        match &self.0.what {
            What::Text(text) | What::Secret(text) => {
                visitor.visit_enum(Choice(text)).map_err(|fault: Fault| fault.at(spot))
            }
            _ => Err(Fault::custom("this is one word out of a few").at(spot)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.items.next().map(|node| seed.deserialize(From(node)).map_err(|fault| fault.about(node))).transpose()
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, (spot, node))) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(node);
        let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.at(spot))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().ok_or_else(|| Fault::custom("a value without its key"))?;
        seed.deserialize(From(node)).map_err(|fault| fault.about(node))
    }
}

/// One word out of a few.
struct Choice<'a>(&'a str);

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Fault> {
        Err(Fault::custom("this choice is one word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("this choice is one word"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _fields: &'static [&'static str], _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("this choice is one word"))
    }
}
