//! Which shard a tenant belongs to.

/// How many shards a deployment has unless its settings say otherwise.
pub const SHARDS_DEFAULT: u16 = 8;

/// The shard of `tenant` among `shards`: 32-bit FNV-1a of the encoded token, modulo the count. It is
/// the hash of the server's `partition()` mapping, so a client that leaves the shard out of its
/// subject lands on the same one.
#[must_use]
pub fn of(tenant: &crate::TenantId, shards: u16) -> u16 {
    let hash = crate::token::encode(tenant.as_str())
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // The remainder is below a u16.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a u16 fits one")]
    let shard = (hash % u32::from(shards.max(1))) as u16;
    shard
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::TenantId;

    #[test]
    fn hash_is_fnv_1a() {
        // FNV-1a("a") = 0xe40c292c, published with the algorithm.
        let tenant = TenantId::new("a").unwrap();
        assert_eq!(u32::from(of(&tenant, u16::MAX)), 0xe40c_292c_u32 % 65_535);
    }
}
