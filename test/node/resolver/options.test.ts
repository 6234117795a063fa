import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { resolverOptionsOf } from "../../../src/node/resolver/resolver-rooms.ts";
import { followedSummariesOf } from "../../../src/node/resolver/summaries/options.ts";

function settingsOf(env: Readonly<Record<string, string>>) {
  const given = { WAYMARK_NODE__MODE: "resolver", WAYMARK_RESOLVER__UPSTREAMS: "127.0.0.1:1,localhost:2", ...env };
  const loaded = loadConfig({ env: given, flags: new Map() });
  if (!loaded.ok) throw new Error(loaded.problems.map(({ message }) => message).join("\n"));
  return loaded.effective.settings;
}

function optionsOf(env: Readonly<Record<string, string>>) {
  return resolverOptionsOf(settingsOf(env), { name: "r1", random: () => 0 });
}

test("the settings of a resolver are the options of its machine", () => {
  const env = { WAYMARK_NODE__CLUSTER_ID: "c9", WAYMARK_NODE__REGION: "eu", WAYMARK_RESOLVER__NAMESPACES: "svc,a.b" };
  const { random, ...options } = optionsOf({ ...env, WAYMARK_RESOLVER__SEED_ON_START: "false", WAYMARK_RESOLVER__TTL_ZONE: "9s" });
  expect(random()).toBe(0);
  expect(options).toEqual({
    name: "r1",
    clusterId: "c9",
    region: "eu",
    upstreams: ["127.0.0.1:1", "localhost:2"],
    namespaces: ["svc", "a.b"],
    maxWatches: 256,
    maxEntries: 1_000_000,
    maxBytes: 1_073_741_824,
    ttls: { zoneMs: 9000, regionMs: 30_000, globalMs: 60_000, negativeMs: 15_000 },
    maxStaleMs: 3_600_000,
    guardHoldMs: 300_000,
    pruneIntervalMs: 30_000,
    seedOnStart: false,
    resyncIntervalMs: 300_000,
  });
});

test("which summaries a resolver follows: none without a scope; those of its namespaces, or all, where none are named", () => {
  const followed = (env: Readonly<Record<string, string>>) => {
    const facts = { nodeId: "r1", generation: 7 };
    const { prefixes, scopes, ...rest } = followedSummariesOf(settingsOf(env), facts) ?? { prefixes: [], scopes: [] };
    return { prefixes, scopes: [...scopes], ...rest };
  };
  expect(followed({ WAYMARK_RESOLVER__NAMESPACES: "svc" })).toEqual({ prefixes: [], scopes: [] });
  const scoped = { WAYMARK_SUMMARY__RESOLVER_SCOPES: "global,region" };
  const bounds = {
    maxEntries: 250_000,
    maxBytes: 1_073_741_824,
    ttlMs: 120_000,
    staleKeepMs: 600_000,
    maxClockSkewMs: 600_000,
    pruneIntervalMs: 30_000,
  };
  const facts = { nodeId: "r1", generation: 7, clusterId: "local", region: "local", requireSignatures: false };
  expect(followed(scoped)).toEqual({ prefixes: [""], scopes: [SCOPE.GLOBAL, SCOPE.REGION], ...bounds, ...facts });
  expect(followed({ ...scoped, WAYMARK_RESOLVER__NAMESPACES: "svc.a,b" }).prefixes).toEqual(["svc.a", "b"]);
  expect(followed({ ...scoped, WAYMARK_RESOLVER__NAMESPACES: "svc,*" }).prefixes).toEqual([""]);
  expect(followed({ ...scoped, WAYMARK_RESOLVER__NAMESPACES: "svc", WAYMARK_SUMMARY__RESOLVER_NAMESPACES: "x" }).prefixes).toEqual(["x"]);
});

test("with * among its namespaces a resolver follows one prefix, below which is everything", () => {
  expect(optionsOf({ WAYMARK_RESOLVER__NAMESPACES: "svc,*" }).namespaces).toEqual([""]);
});
