package main

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// ShardOf returns the shard of a key in the set of a namespace that has count shards: floor(count * u / 2^64), where u
// is the first 8 bytes, big-endian, of SHA-256(namespace, 0x00, key). Every client must return the same shards.
func ShardOf(namespace string, count uint64, key []byte) uint64 {
	digest := sha256.Sum256(append([]byte(namespace+"\x00"), key...))
	shard, _ := bits.Mul64(count, binary.BigEndian.Uint64(digest[:8]))
	return shard
}
