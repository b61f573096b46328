//! JSON of an object as it waits in memory: objects repeat themselves, are many
//! and are read rarely. On disk and on the wire they are plain.

use std::rc::Rc;

use serde_json::Value;

/// A packed text. Clones share it; equal texts are packed equally.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed(Rc<[u8]>);

impl Packed {
    /// Packs a text.
    pub fn new(text: &str) -> Self {
        Self(lz4_flex::block::compress_prepend_size(text.as_bytes()).into())
    }

    /// The text.
    pub fn text(&self) -> String {
        let bytes = lz4_flex::block::decompress_size_prepended(&self.0).expect("it was packed here");
        String::from_utf8(bytes).expect("it was a text")
    }

    /// Packs a tree, which takes ten times as much as its text.
    pub fn tree(tree: &Value) -> Self {
        Self::new(&tree.to_string())
    }

    /// The tree.
    pub fn to_tree(&self) -> Value {
        serde_json::from_str(&self.text()).expect("it was JSON")
    }

    /// Whether this is a clone of the other: much quicker than whether they are
    /// equal.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// It may be a secret.
impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} B packed", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_as_it_was_and_takes_less() {
        let property = |number| format!(r#"{{"name":"property-{number}","desired":{{"value":"20","metadata":{{"type":"string"}}}},"reportToCloud":true}}"#);
        let text = (0..10).map(property).collect::<Vec<_>>().join(",");
        let packed = Packed::new(&text);
        assert_eq!((packed.text(), &packed), (text.clone(), &Packed::new(&text)));
        assert!(packed.0.len() < text.len() / 4, "{packed:?} of {}", text.len());
        assert!(packed.is(&packed.clone()) && !packed.is(&Packed::new(&text)));
        assert_eq!(Packed::new("").text(), "");
    }
}
