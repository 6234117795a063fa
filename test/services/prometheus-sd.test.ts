import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { BODY } from "../../src/catalog/record/record.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import { NO_POLICY } from "../../src/policy/set/verdict.ts";
import { prometheusRoute } from "../../src/services/prometheus-sd.ts";
import type { RouteAnswer, RouteParameters } from "../../src/services/service.ts";
import { at, caller, draftAt, Registry } from "../fakes/registry.ts";

type EntryInit = MessageInitShape<typeof EntrySchema>;

const WEB: EntryInit = {
  scope: 3,
  health: 2,
  targets: [
    { name: "http", host: "10.0.0.1", port: 8080, protocol: "HTTP" },
    { name: "", host: "fd00::1", port: 9090 },
    { name: "stats", host: "10.0.0.1", port: 8125, protocol: "udp" },
  ],
  tags: ["blue", "canary"],
  metadata: { team: "market", "app.kubernetes.io/name": 'we"b' },
};

/** A catalog with these entries of other nodes, as instances web-1, web-2, … of `svc.market/web`. */
function catalogOf(...entries: readonly EntryInit[]): Registry {
  const registry = new Registry();
  for (const [index, init] of entries.entries()) {
    const key = { namespace: "svc.market", name: "web", instanceId: `web-${index + 1}` };
    registry.receive(draftAt(key, init), { body: BODY.ENTRY, hlcMs: 1, nodeId: "n1" }, at(0));
  }
  return registry;
}

function ask({ replica }: Registry, parameters: RouteParameters = {}): RouteAnswer {
  const facts = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" };
  const reads = new CatalogReads(replica, facts, { policies: { policy: NO_POLICY }, onDenied: () => {} });
  const route = prometheusRoute({ reads, checkCaughtUp: () => undefined });
  return route.answer(parameters, { caller: caller("ann"), time: at(0), requestId: "" }) as RouteAnswer;
}

function pieces(registry: Registry, parameters: RouteParameters = {}): Iterator<string> {
  const answer = ask(registry, parameters);
  if (answer.kind !== "pieces") throw new Error("the list comes in pieces");
  return answer.pieces[Symbol.iterator]();
}

function listed(registry: Registry, parameters: RouteParameters = {}): readonly Group[] {
  return JSON.parse([...Iterator.from(pieces(registry, parameters))].join("")) as Group[];
}

interface Group {
  readonly targets: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

const addresses = (groups: readonly Group[]) => groups.flatMap(({ targets }) => targets);

test("a port is one group, with its name, its protocol and the facts of its entry as labels", () => {
  const entry = {
    __meta_waymark_namespace: "svc.market",
    __meta_waymark_name: "web",
    __meta_waymark_instance: "web-1",
    __meta_waymark_cluster: "c1",
    __meta_waymark_region: "r1",
    __meta_waymark_zone: "z1",
    __meta_waymark_node: "a",
    __meta_waymark_scope: "region",
    __meta_waymark_health: "degraded",
    __meta_waymark_tags: ",blue,canary,",
    __meta_waymark_metadata_team: "market",
    __meta_waymark_metadata_app_kubernetes_io_name: 'we"b',
  };
  expect(listed(catalogOf(WEB))).toEqual([
    { targets: ["10.0.0.1:8080"], labels: { ...entry, __meta_waymark_port_name: "http", __meta_waymark_port_protocol: "http" } },
    { targets: ["[fd00::1]:9090"], labels: { ...entry, __meta_waymark_port_name: "", __meta_waymark_port_protocol: "tcp" } },
  ]);
});

test("a target without a port is left out", () => {
  const targets = [{ host: "10.0.0.9" }, { host: "10.0.0.1", port: 8080 }];
  expect(addresses(listed(catalogOf({ ...WEB, targets })))).toEqual(["10.0.0.1:8080"]);
});

test("no entries are an empty list, and an entry without tags has an empty tag label", () => {
  expect(listed(catalogOf())).toEqual([]);
  expect(listed(catalogOf({ ...WEB, tags: [] }))).toMatchObject([{ labels: { __meta_waymark_tags: "" } }, {}]);
});

test("control characters in values are escaped, and Prometheus reads the original values", () => {
  const team = "a\u001b\u009b\u202e\u2066b";
  const registry = catalogOf({ ...WEB, metadata: { team } });
  expect([...Iterator.from(pieces(registry))].join("").replaceAll("\n", "")).not.toMatch(/\p{Cc}|[\u202a-\u202e\u2066-\u2069]/u);
  expect(listed(registry)).toMatchObject([{ labels: { __meta_waymark_metadata_team: team } }, {}]);
});

test.each([
  { protocol: "udp", want: ["10.0.0.1:8125"] },
  { protocol: "UDP", want: ["10.0.0.1:8125"] },
  { protocol: "tcp", want: ["[fd00::1]:9090"] },
  { protocol: "http", want: ["10.0.0.1:8080"] },
  { protocol: "grpc", want: [] },
])("?protocol=$protocol selects the ports with that protocol", ({ protocol, want }) => {
  expect(addresses(listed(catalogOf(WEB), { protocol }))).toEqual(want);
});

test("a large catalog is sent in pieces of bounded size, and each piece reads only its own records", () => {
  const registry = catalogOf(...Array.from({ length: 1_000 }, () => ({ ...WEB, metadata: { team: "x".repeat(1_000) } })));
  const { slab } = registry.replica;
  const view = slab.view.bind(slab);
  let readCount = 0;
  slab.view = (...of) => {
    readCount += 1;
    return view(...of);
  };
  const list = pieces(registry);
  const first = list.next();
  expect(readCount).toBeLessThan(50);
  const all = [String(first.value), ...Iterator.from(list)];
  expect(Math.max(...all.map(({ length }) => length))).toBeLessThan(128 * 1_024);
  expect(readCount).toBe(1_000);
  expect(JSON.parse(all.join(""))).toHaveLength(2_000);
});

test("entries that change while the list is read are shown as of the time when their piece is built", () => {
  const registry = catalogOf(...Array.from({ length: 300 }, () => WEB));
  const list = pieces(registry);
  const first = String(list.next().value);
  for (const instanceId of ["web-1", "web-99"]) {
    const key = { namespace: "svc.market", name: "web", instanceId };
    const moved = { ...WEB, targets: [{ host: "10.9.9.9", port: 1 }] };
    registry.receive(draftAt(key, moved), { body: BODY.ENTRY, hlcMs: 2, nodeId: "n1" }, at(1));
  }
  const groups = JSON.parse([first, ...Iterator.from(list)].join("")) as Group[];
  expect(addresses(groups).filter((address) => address === "10.9.9.9:1")).toHaveLength(1);
});

test.each([
  { parameters: { namespace: "Svc" }, field: "namespace" },
  { parameters: { namespace: "a..b" }, field: "namespace" },
  { parameters: { namespace: "" }, field: "namespace" },
  { parameters: { tag: "a b" }, field: "tag" },
  { parameters: { tag: "" }, field: "tag" },
  { parameters: { protocol: "" }, field: "protocol" },
  { parameters: { protocol: "x".repeat(33) }, field: "protocol" },
])("a filter that names nothing possible is refused: $parameters", ({ parameters, field }) => {
  expect(() => ask(catalogOf(), parameters)).toThrow(`invalid_argument: ${field}`);
});
