/** ResolveName at a process that must fetch what it answers: how long a call waits for that. */
import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService, ResolveNameRequestSchema, ResolveNameResponseSchema } from "../../gen/waymark/dns/v1/dns_pb.js";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { PendingNameError } from "../../src/dns/subject/remote-lookup.ts";
import { DEFAULT_VIEW } from "../../src/dns/subject/subject.ts";
import { DnsViews } from "../../src/dns/views/views.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { withNameReads } from "../../src/services/dns/name-answers.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../fakes/dns-catalog.ts";
import { at } from "../fakes/registry.ts";

const ANONYMOUS = anonymousCaller("c1", "127.0.0.1");

/** Asks ResolveName of a process with this catalog. */
async function resolveName(catalog: FakeDnsCatalog, request: MessageInitShape<typeof ResolveNameRequestSchema>) {
  const none = { kind: "unary", handle: () => assert.fail("no list is asked for") } as const;
  const [, service] = withNameReads(
    [
      { desc: DiscoveryService, handlers: { catalogQuery: none } },
      { desc: DnsService, handlers: {} },
    ],
    {
      settings: TEST_DNS_SETTINGS,
      catalogOf: () => catalog,
      viewers: [{ view: DEFAULT_VIEW, caller: ANONYMOUS }],
      views: new DnsViews([], []),
      isAnonymousRefused: false,
      serialOf: () => 7,
      reads: { hiddenBy: () => undefined, noteHidden: () => {}, verdict: () => assert.fail("nobody may be told of the policy") },
      checkCaughtUp: () => {},
      random: () => 0,
      allowsViewerOverride: false,
    },
  );
  const handler = service?.handlers["resolveName"];
  assert(handler?.kind === "unary");
  const context = { caller: ANONYMOUS, time: at(0), requestId: "" };
  return create(ResolveNameResponseSchema, (await handler.handle(create(ResolveNameRequestSchema, request) as never, context)) as never);
}

test.each([
  { arrivals: 0, outcome: "NXDOMAIN" },
  { arrivals: 15, outcome: "NXDOMAIN" },
  { arrivals: 16, outcome: "not_ready" },
  { arrivals: 10_000, outcome: "not_ready" },
])("an answer that needs $arrivals fetches, one after the other, is $outcome", async ({ arrivals, outcome }) => {
  let lookCount = 0;
  class Fetching extends FakeDnsCatalog {
    override find(): [] {
      if (lookCount++ < arrivals) throw new PendingNameError(`k${lookCount}`, Promise.resolve(), new Set());
      return [];
    }
  }
  let said = outcome;
  try {
    said = (await resolveName(new Fetching(), { name: "_svc._tcp.web.market.waymark", recordType: "SRV" })).rcode;
  } catch (error) {
    assert(error instanceof WaymarkError);
    said = error.reason;
  }
  expect([said, lookCount]).toEqual([outcome, Math.min(arrivals + 1, 16)]);
});

test("however many entries carry an alias, they are read a few times to explain it", async () => {
  let readCount = 0;
  class Counting extends FakeDnsCatalog {
    override findAlias(...name: Parameters<FakeDnsCatalog["findAlias"]>): ReturnType<FakeDnsCatalog["findAlias"]> {
      readCount += 1;
      return super.findAlias(...name);
    }
  }
  const aliasOwners = ["web", "shop"].flatMap((name) =>
    Array.from({ length: 50 }, (_, i) => entryView({ name, instanceId: `${i}`, targets: [{ host: "10.0.0.1" }], aliases: ["pay.market"] })),
  );
  const { reasons } = await resolveName(new Counting(aliasOwners), { name: "pay.market.waymark", explain: true });
  expect(reasons.filter(({ topic }) => topic === "alias")).toHaveLength(2);
  expect(readCount).toBeLessThan(10);
});

test.each([
  { what: "a cluster", one: {}, ttl: "20 s: the TTL of the summary, bounded by dns.min_ttl and dns.max_ttl" },
  { what: "a lost cluster", one: { health: HEALTH.ORPHANED }, ttl: "3 s: at most dns.stale_ttl, because the cluster is lost" },
  { what: "a summary that ends", one: {}, leftMs: 4_900, ttl: "4 s: the summary expires at that time" },
])("an answer that leads to $what says so", async ({ one, leftMs, ttl }) => {
  class Leading extends FakeDnsCatalog {
    findCluster = () => ({ ...entryView({ name: "web", targets: [{ host: "10.0.0.1" }] }), ttlMs: 20_000, ...one });
    takeLeftMs = () => leftMs ?? Number.POSITIVE_INFINITY;
  }
  const { reasons } = await resolveName(new Leading(), { name: "web.market.waymark", explain: true });
  const said = reasons.filter(({ topic }) => topic === "name" || topic === "ttl").map(({ detail }) => detail);
  const cluster = entryView({ name: "web" }).key.clusterId;
  expect(said).toEqual([
    `web.market.waymark has no usable entry in this catalog, and resolves to the ingress of cluster ${cluster}, with 1 target`,
    ttl,
  ]);
});
