/**
 * Checks of two tenants on a real node: thousands of checks of a silent server delay only the tenant that registered them.
 *
 * @module-tag night
 */
import { afterEach, expect, test } from "vitest";
import { outcomeOf, startLimitedNode } from "../fakes/limited-node.ts";
import { answering, closeServers, freePort } from "../fakes/probed-servers.ts";
import { until } from "../fakes/until.ts";

afterEach(closeServers);

const DISCOVERY = "/waymark.discovery.v1.DiscoveryService";
const ENABLED = '[checks]\nenabled = true\nallowed = ["127.0.0.1"]\n';

/** `count` entries of `svc/name` whose checks probe this port. */
function checked(name: string, port: number, count: number, check: object) {
  const entries = Array.from({ length: count }, (_, i) => ({
    key: { namespace: "svc", name, kind: "ENTRY_KIND_SERVICE", instanceId: `${name}-${i}` },
    targets: [{ host: "127.0.0.1", port }],
    health: "HEALTH_STATUS_HEALTHY",
    checks: [check],
  }));
  return { entries, staticLease: true };
}

test("while 4,000 checks of a silent server wait, another tenant's dead instance is CRITICAL after its own interval and timeout", {
  tags: ["night"],
}, async () => {
  const silent = await answering();
  await using node = await startLimitedNode(ENABLED);
  const register = async (who: "a" | "b", request: object) =>
    expect((await node.post(who, `${DISCOVERY}/Register`, request)).status).toBe(200);
  for (let i = 0; i < 4; i++)
    await register("a", checked(`silent${i}`, silent.port, 1000, { http: { path: "/" }, interval: "60s", timeout: "60s" }));
  const metric = async (name: string) => Number(new RegExp(`^${name}(?:\\{\\})? (\\d+)$`, "m").exec(await node.metrics())?.[1]);
  await until("all probes are in use", async () => (await metric("waymark_check_probes_in_flight")) === 256);
  await register("b", checked("dead", await freePort(), 1, { tcp: {}, interval: "1s", failing: 2 }));
  const healthOf = async () => {
    const answer = await node.post("b", `${DISCOVERY}/CatalogQuery`, { namespace: "svc", names: ["dead"] });
    const { items } = (await answer.json()) as { items: { health: string }[] };
    return items[0]?.health;
  };
  // The probes of the other tenant take a minute, so this result did not wait for one of them.
  await until("it is critical", async () => (await healthOf()) === "HEALTH_STATUS_CRITICAL", 30_000);
  expect(await metric("waymark_check_probes_in_flight")).toBeLessThanOrEqual(256);
  expect(await metric("waymark_check_probes_waiting")).toBeGreaterThan(3000);
});

test("quotas.tenant_checks limits the checks of a tenant on a node, and existing checks can still be changed", async () => {
  const { port } = await answering();
  await using node = await startLimitedNode(`${ENABLED}[quotas]\ntenant_checks = 3\n`);
  const register = (who: "a" | "b", request: object) => node.post(who, `${DISCOVERY}/Register`, request);
  const check = { tcp: {} };
  expect((await register("a", checked("web", port, 2, check))).status).toBe(200);
  expect((await register("a", checked("web", port, 3, { ...check, interval: "5s" }))).status).toBe(200);
  const refused = await register("a", checked("more", port, 1, check));
  expect(await refused.text()).toContain('tenant \\"a\\" has 3 of at most 3 checks; this request would add 1');
  expect((await register("b", checked("other", port, 3, check))).status).toBe(200);
  const key = { namespace: "svc", name: "web", kind: 1, instanceId: "web-0" };
  expect(await outcomeOf(node.grpc.a.unregister({ keys: [key] }))).toMatchObject({ reason: "ok" });
  expect((await register("a", checked("more", port, 1, check))).status).toBe(200);
  expect(await node.metrics()).toMatch(/^waymark_quota_refusals_total\{holder="tenant",bound="checks"\} 1$/m);
});
