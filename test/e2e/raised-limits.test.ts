/**
 * A node with raised limits takes by `apply` what it takes by `Register`.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { startNodeProcess } from "../fakes/node-process.ts";

const root = mkdtempSync(join(tmpdir(), "waymark-wide-entries-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const config = join(root, "wide.toml");
writeFileSync(
  config,
  "[limits]\nmax_targets = 100\nmax_list_items = 100\nmax_metadata_pairs = 100\nmax_metadata_value_bytes = 30000\nmax_entry_bytes = 30000\n",
);

const many = Array.from({ length: 65 }, (_, n) => `n${n}`);
const entryOf = (instanceId: string, rest: object) =>
  JSON.stringify({ key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId }, ...rest });

test("apply takes entries with more targets, tags, metadata and bytes than the defaults allow", async () => {
  await using wide = await startNodeProcess(["--ephemeral", "--config", config]);
  const rests = [
    { targets: many.map((name) => ({ name, host: "10.0.0.1", port: 80 })) },
    { tags: many },
    { metadata: Object.fromEntries(many.map((name) => [name, "v"])) },
    { metadata: { a: "v".repeat(20_000) } },
  ];
  const text = rests.map((rest, n) => entryOf(`${n}`, rest)).join("\n---\n");
  const { stdout, stderr } = await wide.run(["apply", "-f", "-", "-o", "json"], text);
  expect(`${stderr} ${stdout}`).toContain('"create": 4');
});
