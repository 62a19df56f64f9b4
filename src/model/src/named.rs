/// Declares an enum whose variants have fixed names in the API and a fixed number in encoded forms.
///
/// Human-readable formats see the name, binary formats the position: variants are appended, never reordered.
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name that the API uses.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Finds the variant with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(self.as_str())
                } else {
                    serializer.serialize_u8(*self as u8)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    Self::from_name(&name).ok_or_else(|| {
                        serde::de::Error::custom(format_args!(
                            concat!("unknown ", stringify!($name), " {:?}"), name
                        ))
                    })
                } else {
                    let at = u8::deserialize(deserializer)?;
                    Self::ALL.get(usize::from(at)).copied().ok_or_else(|| {
                        serde::de::Error::custom(format_args!(
                            concat!("unknown ", stringify!($name), " number {}"), at
                        ))
                    })
                }
            }
        }
    };
}

pub(crate) use named_enum;
