/** Where a cluster is meant to export summaries. */
import { expect, test } from "vitest";
import { loadConfig } from "../../../../src/config/load.ts";
import { isMeantToExport } from "../../../../src/node/core/rooms.ts";

const KEY = `${"A".repeat(43)}=`;
const BORDERS = [{ cluster_id: "us1", region: "us", trust: { token_file: "t" }, keys: [KEY] }];
const keysOf = (cluster_id: string) => [{ cluster_id, region: "eu", public_key: KEY }];

test.each<{ readonly where: string; readonly fabric?: object; readonly summary?: object; readonly isMeant: boolean }>([
  { where: "nothing is set", isMeant: false },
  { where: "borders are set, and no key", fabric: { borders: BORDERS }, isMeant: true },
  { where: "a signing key is set, and the borders stand in another cluster", summary: { signing_key_file: "k" }, isMeant: true },
  { where: "the public key of its own cluster is set: other nodes sign", summary: { keys: keysOf("eu1") }, isMeant: true },
  { where: "only keys of other clusters are set: it reads", summary: { keys: keysOf("eu2") }, isMeant: false },
  { where: "it is off, with borders", fabric: { borders: BORDERS }, summary: { export_enabled: false }, isMeant: false },
  { where: "it is off, with a key", summary: { export_enabled: false, signing_key_file: "k" }, isMeant: false },
  { where: "it is on", summary: { export_enabled: true, signing_key_file: "k" }, isMeant: true },
])("summaries are exported or not where $where: $isMeant", ({ fabric, summary, isMeant }) => {
  const text = JSON.stringify({ node: { cluster_id: "eu1", region: "eu" }, fabric, summary });
  const loaded = loadConfig({ file: { name: "n.json", format: "json", text }, env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  expect(isMeantToExport(loaded.effective.settings)).toBe(isMeant);
});
