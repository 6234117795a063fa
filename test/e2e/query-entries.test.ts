/**
 * Queries that look into entries: the versions of functions and the subjects of topics, through a real node.
 *
 * @module-tag night
 */
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { outcomeOf } from "../fakes/limited-node.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

const FUNCTION = EntryKind.FUNCTION;

test("a query finds functions by a version range and topics by a subject", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const client = createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));
  const versions = ["1.2.0", "1.9.4", "2.0.0", "2.0.0-rc.1", ""];
  const functions = versions.map((version, i) => ({
    key: { kind: FUNCTION, namespace: "fn", name: "price", instanceId: `f${i}` },
    detail: { case: "function" as const, value: { version } },
  }));
  const topics = [["orders.*.created"], ["orders.#"], ["payments.>"]].map((patterns, i) => ({
    key: { kind: EntryKind.TOPIC, namespace: "fn", name: "orders", instanceId: `t${i}` },
    detail: { case: "topic" as const, value: { patterns } },
  }));
  const service = { key: { kind: EntryKind.SERVICE, namespace: "fn", name: "web", instanceId: "s" } };
  await client.register({ entries: [...functions, ...topics, service], staticLease: true });

  type Asked = Parameters<typeof client.catalogQuery>[0];
  const found = async (asked: Asked) => (await client.catalogQuery(asked)).items.map(({ key }) => key?.instanceId ?? "");
  expect(await found({ versionRange: "^1.2.0" })).toEqual(["f0", "f1"]);
  expect(await found({ versionRange: ">=2 <3", namespacePrefix: "fn", kinds: [FUNCTION] })).toEqual(["f2"]);
  expect(await found({ versionRange: "^3" })).toEqual([]);
  expect(await found({ subject: "orders.eu.created" })).toEqual(["t0", "t1"]);
  expect(await found({ subject: "orders" })).toEqual(["t1"]);
  expect(await found({ subject: "payments.eu" })).toEqual(["t2"]);
  expect(await found({ subject: "payments" })).toEqual([]);

  // Pages go on with the same range, and with no other.
  const first = await client.catalogQuery({ versionRange: "*", limit: 2 });
  const second = await client.catalogQuery({ versionRange: "*", limit: 2, pageToken: first.nextPageToken });
  expect([...first.items, ...second.items].map(({ key }) => key?.instanceId)).toEqual(["f0", "f1", "f2"]);
  expect(await outcomeOf(client.catalogQuery({ versionRange: "^1", pageToken: first.nextPageToken }))).toMatchObject({
    reason: "invalid_argument",
  });

  const { explanation } = await client.catalogQuery({ versionRange: "^1", names: ["price", "web"], explain: true });
  const told = Object.fromEntries(explanation.map(({ key, reason, detail }) => [key?.instanceId ?? "", `${reason} ${detail}`]));
  expect(told).toMatchObject({
    f0: "kept ",
    f2: "version_range version 2.0.0 is not in ^1",
    f4: "version_range version (none) is not in ^1",
  });

  for (const [asked, says] of [
    [{ versionRange: "latest!" }, 'version_range: "latest!" is not a range'],
    [{ versionRange: "^1", kinds: [EntryKind.TOPIC] }, "version_range: only functions have versions: add FUNCTION to kinds"],
    [{ versionRange: "1".repeat(129) }, "version_range: must have at most 128 characters, got 129"],
    [{ subject: "orders.*" }, "subject: "],
    [{ subject: "orders", kinds: [FUNCTION] }, "subject: only topics have subjects"],
    [{ subject: "orders", versionRange: "^1" }, "subject: "],
  ] as const satisfies readonly (readonly [Asked, string])[]) {
    const refused = await outcomeOf(client.catalogQuery(asked));
    expect(refused).toMatchObject({ reason: "invalid_argument" });
    expect(refused.message).toContain(says);
  }
  // A function's name has one id.
  const withId = (instanceId: string, functionId: string) => ({
    entries: [
      { key: { kind: FUNCTION, namespace: "fn", name: "tax", instanceId }, detail: { case: "function" as const, value: { functionId } } },
    ],
    staticLease: true,
  });
  await client.register(withId("1", "f-tax"));
  expect(await outcomeOf(client.register(withId("2", "f-vat")))).toMatchObject({ reason: "invalid_argument" });
  expect(await outcomeOf(client.register(withId("2", "f-tax")))).toMatchObject({ reason: "ok" });

  const words = await node.run(["discovery", "query", "--version-range", "^1.2.0", "-o", "json"]);
  expect(JSON.parse(words.stdout)).toMatchObject({ items: [{ key: { instanceId: "f0" } }, { key: { instanceId: "f1" } }] });
});
