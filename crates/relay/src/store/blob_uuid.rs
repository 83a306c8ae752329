//! `uuid` columns, which sqlx reads and writes only with a feature the workspace does not use.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use uuid::Uuid;

/// Postgres' own number of the type `uuid`; it is the same in every cluster.
const UUID_OID: Oid = Oid(2950);

/// Names a storage (the bytes of one upload) or a part (what one request wrote of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PgUuid(pub(crate) Uuid);

impl PgUuid {
    /// A new name nobody else has.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl Type<Postgres> for PgUuid {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UUID_OID)
    }
}

impl Encode<'_, Postgres> for PgUuid {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for PgUuid {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let uuid = match value.format() {
            PgValueFormat::Binary => Uuid::from_slice(value.as_bytes()?)?,
            PgValueFormat::Text => Uuid::parse_str(value.as_str()?)?,
        };
        Ok(Self(uuid))
    }
}
