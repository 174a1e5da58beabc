//! The two plain content types: a string as text, bytes as they are. `()` is empty content of either.

use std::fmt;

use serde::{
    Serialize,
    de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor},
    ser::{self, Impossible, SerializeSeq, SerializeTuple, Serializer},
};

use super::CodecError;

impl ser::Error for CodecError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }
}

impl de::Error for CodecError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }
}

pub(super) fn to_text<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    value.serialize(Plain { text: true })
}

pub(super) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    value.serialize(Plain { text: false })
}

pub(super) fn from_text<T: DeserializeOwned>(content: &[u8]) -> Result<T, CodecError> {
    T::deserialize(Text(std::str::from_utf8(content).map_err(CodecError::new)?))
}

pub(super) fn from_bytes<T: DeserializeOwned>(content: &[u8]) -> Result<T, CodecError> {
    T::deserialize(Plainly(content))
}

/// Writes one string, or one run of bytes.
struct Plain {
    text: bool,
}

impl Plain {
    fn refuse<T>(&self, what: &str) -> Result<T, CodecError> {
        let holds = if self.text { "text content holds a string" } else { "content of bytes holds bytes" };
        Err(CodecError::new(format_args!("{holds}, not {what}")))
    }
}

macro_rules! refuse {
    ($($method:ident($($arg:ty),*) -> $what:literal;)*) => {
        $(fn $method(self, $(_: $arg),*) -> Result<Self::Ok, CodecError> {
            self.refuse($what)
        })*
    };
}

impl Serializer for Plain {
    type Ok = Vec<u8>;
    type Error = CodecError;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = Impossible<Vec<u8>, CodecError>;
    type SerializeTupleVariant = Impossible<Vec<u8>, CodecError>;
    type SerializeMap = Impossible<Vec<u8>, CodecError>;
    type SerializeStruct = Impossible<Vec<u8>, CodecError>;
    type SerializeStructVariant = Impossible<Vec<u8>, CodecError>;

    refuse! {
        serialize_bool(bool) -> "a boolean";
        serialize_i8(i8) -> "a number";
        serialize_i16(i16) -> "a number";
        serialize_i32(i32) -> "a number";
        serialize_i64(i64) -> "a number";
        serialize_u8(u8) -> "a number";
        serialize_u16(u16) -> "a number";
        serialize_u32(u32) -> "a number";
        serialize_u64(u64) -> "a number";
        serialize_f32(f32) -> "a number";
        serialize_f64(f64) -> "a number";
        serialize_none() -> "an option";
    }

    fn serialize_char(self, v: char) -> Result<Vec<u8>, CodecError> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, v: &str) -> Result<Vec<u8>, CodecError> {
        if self.text { Ok(v.as_bytes().to_vec()) } else { self.refuse("a string") }
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<Vec<u8>, CodecError> {
        if self.text { self.refuse("bytes") } else { Ok(v.to_vec()) }
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<Vec<u8>, CodecError> {
        self.refuse("an option")
    }

    fn serialize_unit(self) -> Result<Vec<u8>, CodecError> {
        Ok(Vec::new())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Vec<u8>, CodecError> {
        Ok(Vec::new())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Vec<u8>, CodecError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<Vec<u8>, CodecError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Vec<u8>, CodecError> {
        self.refuse("an enum with values")
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List, CodecError> {
        if self.text {
            return self.refuse("a list");
        }
        Ok(List(Vec::with_capacity(len.unwrap_or(0).min(parlour_wire::limits::FRAME))))
    }

    fn serialize_tuple(self, len: usize) -> Result<List, CodecError> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, CodecError> {
        self.refuse("a struct")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, CodecError> {
        self.refuse("an enum with values")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, CodecError> {
        self.refuse("a map")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, CodecError> {
        self.refuse("a struct")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, CodecError> {
        self.refuse("an enum with values")
    }
}

/// Bytes that come one by one, as those of a `Vec<u8>` do.
struct List(Vec<u8>);

impl List {
    fn push<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), CodecError> {
        self.0.push(value.serialize(Byte)?);
        Ok(())
    }
}

impl SerializeSeq for List {
    type Ok = Vec<u8>;
    type Error = CodecError;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), CodecError> {
        self.push(value)
    }

    fn end(self) -> Result<Vec<u8>, CodecError> {
        Ok(self.0)
    }
}

impl SerializeTuple for List {
    type Ok = Vec<u8>;
    type Error = CodecError;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), CodecError> {
        self.push(value)
    }

    fn end(self) -> Result<Vec<u8>, CodecError> {
        Ok(self.0)
    }
}

/// Takes a `u8` and nothing else.
struct Byte;

fn no_byte<T>() -> Result<T, CodecError> {
    Err(CodecError::new("content of bytes holds bytes, not other values"))
}

macro_rules! no_byte {
    ($($method:ident($($arg:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $arg),*) -> Result<$result, CodecError> {
            no_byte()
        })*
    };
}

type No = Impossible<u8, CodecError>;

impl Serializer for Byte {
    type Ok = u8;
    type Error = CodecError;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    fn serialize_u8(self, v: u8) -> Result<u8, CodecError> {
        Ok(v)
    }

    no_byte! {
        serialize_bool(bool) -> u8;
        serialize_i8(i8) -> u8;
        serialize_i16(i16) -> u8;
        serialize_i32(i32) -> u8;
        serialize_i64(i64) -> u8;
        serialize_u16(u16) -> u8;
        serialize_u32(u32) -> u8;
        serialize_u64(u64) -> u8;
        serialize_f32(f32) -> u8;
        serialize_f64(f64) -> u8;
        serialize_char(char) -> u8;
        serialize_str(&str) -> u8;
        serialize_bytes(&[u8]) -> u8;
        serialize_none() -> u8;
        serialize_unit() -> u8;
        serialize_unit_struct(&'static str) -> u8;
        serialize_unit_variant(&'static str, u32, &'static str) -> u8;
        serialize_seq(Option<usize>) -> No;
        serialize_tuple(usize) -> No;
        serialize_tuple_struct(&'static str, usize) -> No;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No;
        serialize_map(Option<usize>) -> No;
        serialize_struct(&'static str, usize) -> No;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No;
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<u8, CodecError> {
        no_byte()
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<u8, CodecError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<u8, CodecError> {
        no_byte()
    }
}

/// Reads text content.
struct Text<'de>(&'de str);

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        if self.0.is_empty() { visitor.visit_unit() } else { self.deserialize_any(visitor) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option seq tuple tuple_struct map
        struct identifier ignored_any
    }
}

/// Reads content of bytes.
struct Plainly<'de>(&'de [u8]);

impl<'de> Deserializer<'de> for Plainly<'de> {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let mut bytes = de::value::SeqDeserializer::new(self.0.iter().copied());
        let value = visitor.visit_seq(&mut bytes)?;
        // What an array or a tuple has not taken.
        bytes.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        if self.0.is_empty() { visitor.visit_unit() } else { self.deserialize_any(visitor) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option tuple_struct map struct enum
        identifier ignored_any
    }
}
