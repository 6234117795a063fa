package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

// shardKey is a row of docs/examples/shards/keys.json. A key that is not UTF-8 is given as hexadecimal digits.
type shardKey struct {
	Namespace string
	Count     uint64
	Key       string
	KeyHex    string `json:"key_hex"`
	Shard     uint64
}

func checkShardKeys(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var rows []shardKey
	if err := json.Unmarshal(content, &rows); err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("%s has no rows", path)
	}
	for _, row := range rows {
		key := []byte(row.Key)
		if row.KeyHex != "" {
			if key, err = hex.DecodeString(row.KeyHex); err != nil {
				return err
			}
		}
		if shard := ShardOf(row.Namespace, row.Count, key); shard != row.Shard {
			return fmt.Errorf("%+v has shard %d", row, shard)
		}
	}
	return nil
}
