/** Which clusters of the settings a node is to hear of, so that their silence is told. */
import { expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import { clustersToHear } from "../../../src/node/regions/key-faults.io.ts";
import { signingKey } from "../../fakes/signing-keys.ts";

const keyOf = (number: number) => Buffer.from(signingKey(number).publicKey.raw).toString("base64");
const border = (cluster_id: string, ...keys: readonly string[]) => ({ cluster_id, region: "us", trust: { token_file: "t" }, keys });
const row = (cluster_id: string, region: string, number: number) => ({ cluster_id, region, public_key: keyOf(number) });

test.each<{ readonly what: string; readonly borders?: readonly object[]; readonly summary?: object; readonly clusters: readonly string[] }>(
  [
    { what: "neither borders nor keys", clusters: [] },
    { what: "a border with keys", borders: [border("us1", keyOf(1), keyOf(2))], clusters: ["us1"] },
    { what: "a border without a key: its cluster says nothing, and passes on", borders: [border("us1")], clusters: [] },
    { what: "a border that needs no key", borders: [border("us1")], summary: { require_signatures: false }, clusters: ["us1"] },
    { what: "a key of a cluster behind the border", borders: [border("us1")], summary: { keys: [row("ap1", "ap", 1)] }, clusters: ["ap1"] },
    { what: "keys of its own region", summary: { keys: [row("eu1", "eu", 1), row("eu2", "eu", 2)] }, clusters: [] },
  ],
)("with $what a node is to hear of $clusters", ({ borders, summary, clusters }) => {
  const text = JSON.stringify({ node: { cluster_id: "eu1", region: "eu" }, fabric: { borders }, summary });
  const loaded = loadConfig({ file: { name: "n.json", format: "json", text }, env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  expect(clustersToHear(loaded.effective.settings)).toEqual(clusters);
});
