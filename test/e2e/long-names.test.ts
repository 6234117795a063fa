/**
 * Two nodes of one cluster, one of which lets its clients register longer names: what it holds can be asked for and taken out at the other.
 *
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

import { GrpcDoor } from "../fakes/node.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const root = mkdtempSync(join(tmpdir(), "waymark-long-names-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = join(root, "wide.toml");
writeFileSync(config, "[limits]\nmax_name_length = 1000\nmax_namespace_length = 240\nmax_id_length = 256\n");

const namespace = Array.from({ length: 4 }, (_, i) => `${i}`.repeat(59)).join(".");
const [name, tag] = ["n".repeat(1000), "t".repeat(1000)];
const keyOf = (instanceId: string) => ({ kind: "ENTRY_KIND_SERVICE", namespace, name, instanceId });

test("a node with narrow limits finds, pages, resolves and unregisters what one with wide limits registered", {
  tags: ["night"],
}, async () => {
  await using wide = await startNodeProcess(["--ephemeral", "--node-id", "wide", "--config", config]);
  await using narrow = await startNodeProcess(["--ephemeral", "--node-id", "narrow", "--join", wide.listeners["fabric"] ?? ""]);
  using wideDoor = new GrpcDoor(wide.grpc);
  using door = new GrpcDoor(narrow.grpc);
  const targets = [{ host: "10.0.0.1", port: 80, protocol: "http" }];
  const ids = ["1", "2"].map((digit) => digit.repeat(1000));
  const entries = ids.map((id) => ({ key: keyOf(id), tags: [tag], targets }));
  expect(await wideDoor.ask("register", { entries, staticLease: true })).toMatchObject({ code: "OK" });

  /** Pages of one entry, each asked for by the token of the one before. */
  const found = async (): Promise<number> => {
    let count = 0;
    for (let pageToken = ""; ; ) {
      const filter = { namespace, names: [name], tags: [tag], limit: 1, ...(pageToken !== "" && { pageToken }) };
      const { code, message, response } = await door.ask("catalogQuery", filter);
      expect(`${code} ${message}`).toBe("OK ");
      const { items, nextPageToken } = response;
      count += Array.isArray(items) ? items.length : 0;
      if (typeof nextPageToken !== "string" || nextPageToken === "") return count;
      pageToken = nextPageToken;
    }
  };
  await until("both are found", async () => {
    const there = await found();
    return there === ids.length ? [] : [`${there} are found`];
  });
  expect(await door.ask("resolve", { namespace, name })).toMatchObject({ code: "OK" });
  expect(await door.ask("unregister", { keys: ids.map(keyOf) })).toMatchObject({ code: "OK" });
  await until("both are gone", async () => {
    const there = await found();
    return there === 0 ? [] : [`${there} are found`];
  });
  // What its own clients register is bounded as before.
  expect(await door.ask("register", { entries: [{ key: keyOf("1") }] })).toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("what a node with wide limits holds, its other doors and the command line take too", { tags: ["night"] }, async () => {
  await using wide = await startNodeProcess(["--ephemeral", "--config", config]);
  using door = new GrpcDoor(wide.grpc);
  const entry = { key: keyOf("1"), tags: [tag], targets: [{ host: "10.0.0.1", port: 80, protocol: "http" }] };
  expect(await door.ask("register", { entries: [entry], staticLease: true })).toMatchObject({ code: "OK" });

  for (const filter of [`namespace=${namespace}`, `tag=${tag}`]) {
    const answer = await fetch(`http://${wide.listeners["http"]}/sd/prometheus?${filter}`);
    expect([answer.status, await answer.json()]).toMatchObject([200, [{ targets: ["10.0.0.1:80"] }]]);
  }

  const { stdout } = await wide.run(["discovery", "query", "--namespace", namespace, "-o", "yaml"]);
  expect(stdout).toContain(name);
  const applied = await wide.run(["apply", "-f", "-", "-o", "json"], stdout);
  expect(`${applied.stderr} ${applied.stdout}`).toContain('"unchanged": 1');

  const manifest = "apiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec: { ports: [{ port: 80 }] }\n";
  const prefix = namespace.slice(0, 218);
  const imported = await wide.run(["import", "kubernetes", "-", "--namespace-prefix", prefix, "-o", "json"], manifest);
  expect(`${imported.stderr} ${imported.stdout}`).toContain('"create": 1');
  // The bounds are the server's: one with narrow limits refuses what it is sent, and says where.
  await using narrow = await startNodeProcess(["--ephemeral"]);
  const refused = await narrow.run(["apply", "-f", "-"], stdout);
  expect(refused.exit).toBe(1);
  expect(refused.stderr).toMatch(/ -:\d+: key\.name: /);
});

test("an entry that says no ttl gets its lease's, as far as limits.max_entry_ttl lets it", async () => {
  const brief = join(root, "brief.toml");
  writeFileSync(brief, '[limits]\nmax_entry_ttl = "10s"\n');
  await using node = await startNodeProcess(["--ephemeral", "--config", brief]);
  using door = new GrpcDoor(node.grpc);
  const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId: "1" };
  expect(await door.ask("register", { entries: [{ key }], ttl: "30s" })).toMatchObject({ code: "OK", response: { ttl: "30s" } });
  expect((await door.ask("catalogQuery", { namespace: "svc.market" })).response).toMatchObject({ items: [{ ttl: "10s" }] });
  const said = await door.ask("register", { entries: [{ key, ttl: "11s" }], ttl: "30s" });
  expect(said).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["entries[0].ttl"] });
});
