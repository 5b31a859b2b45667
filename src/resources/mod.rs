//! What is wanted: the kinds, decoding with positions, validation and the sources.

pub mod diagnostic;
pub mod kinds;
pub mod object;
pub mod resource;
pub mod source;
pub mod value;

pub use diagnostic::Diagnostic;
pub use object::{Kind, Metadata, ObjectRef, Origin, SourceName};
pub use resource::{Resource, Spec};
pub use source::{Broken, Reading};
