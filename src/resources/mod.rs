//! What is wanted: the kinds, decoding with positions, validation and the sources.

pub mod accepted;
pub(crate) mod check;
pub mod decode;
pub mod diagnostic;
pub mod directory;
pub mod disk_filter;
pub mod draft;
pub mod examples;
pub mod explain;
pub mod files;
pub mod kinds;
pub mod manual;
pub mod object;
pub mod positions;
pub mod render;
pub mod resource;
pub mod schema;
pub mod setup;
pub mod shape;
pub mod source;
pub mod text;
pub mod validate;
pub mod value;
pub mod yaml;

pub use diagnostic::Diagnostic;
pub use object::{Kind, Metadata, ObjectRef, Origin, SourceName};
pub use resource::{Resource, Spec};
pub use source::{Broken, Reading};
