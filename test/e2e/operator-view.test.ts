/** The operator's view of a real node, with and without read workers: who gets it, what the command line shows of it, and what the audit keeps. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { waymark } from "../fakes/cli-world.ts";
import { some } from "../fakes/effort.ts";
import { type LimitedNode, registration, startLimitedNode, TOKENS } from "../fakes/limited-node.ts";

const READER = "token-of-reader";
const SETTINGS = `
[dns]
udp_port = 0
tcp_port = 0
[audit]
sample_reads = 0
[[tenants.credentials]]
tenant = "readers"
principal = "reader"
token_sha256 = "${createHash("sha256").update(READER).digest("hex")}"
roles = ["mesh.read"]
`;
const DISCOVERY = "waymark.discovery.v1.DiscoveryService";
const AS_OPERATOR = { viewer: { asOperator: true } };

/** One call with any token, or with none. */
async function post(node: LimitedNode, rpc: string, body: object, token?: string) {
  const headers = { "content-type": "application/json", ...(token !== undefined && { authorization: `Bearer ${token}` }) };
  const url = `http://${node.process.listeners["http"]}/${rpc}`;
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}

async function run(node: LimitedNode, token: string, ...argv: readonly string[]): Promise<string> {
  const { stdout, stderr } = await waymark([...argv, "--server", node.process.grpc, "--token", token]);
  return `${stdout}${stderr}`;
}

test.each(some([1, 0]))(
  "operators alone see what policy hides, and each of these reads is in the audit, with %i read workers",
  async (workers) => {
    await using node = await startLimitedNode(`[node]\nworkers = ${workers}\n${SETTINGS}`);
    const rules = ["a", "b"].map((tenant) => ({ namespace: `svc.${tenant}`, visibilityTenants: [tenant], allowSummaries: true }));
    for (const who of ["a", "b"] as const) await node.grpc[who].register({ ...registration(`svc.${who}`, "1", "2"), staticLease: true });
    const applied = await node.post("operator", "/waymark.policy.v1.PolicyService/ApplyPolicy", {
      policy: { version: "v1", defaultAllow: true, rules },
    });
    expect(applied.status).toBe(200);
    const operator = TOKENS.operator;

    const query = { namespacePrefix: "svc", limit: 3, ...AS_OPERATOR };
    const first = await post(node, `${DISCOVERY}/CatalogQuery`, query, operator);
    expect(first).toMatchObject({ status: 200, body: { items: [{}, {}, {}], hiddenBy: { "svc.a": "svc.a", "svc.b": "svc.b" } } });
    const token = first.body["nextPageToken"];
    expect((await post(node, `${DISCOVERY}/CatalogQuery`, { ...query, pageToken: token }, operator)).status).toBe(200);
    expect((await post(node, `${DISCOVERY}/CatalogQuery`, { ...query, pageToken: token, viewer: {} }, operator)).status).toBe(400);
    const resolve = { namespace: "svc.a", name: "web" };
    expect((await post(node, `${DISCOVERY}/Resolve`, resolve, operator)).status).toBe(404);
    const resolved = await post(node, `${DISCOVERY}/Resolve`, { ...resolve, ...AS_OPERATOR }, operator);
    expect(resolved).toMatchObject({ status: 200, body: { hiddenBy: { "svc.a": "svc.a" } } });
    const summaries = await post(node, `${DISCOVERY}/SummaryQuery`, { namespace: "svc.b", ...AS_OPERATOR }, operator);
    expect(summaries).toMatchObject({ status: 200, body: { items: [{ serviceId: "web" }], hiddenBy: { "svc.b": "svc.b" } } });
    for (const [who, status] of [
      [READER, 403],
      [TOKENS.a, 403],
      [undefined, 401],
    ] as const) {
      for (const rpc of [`${DISCOVERY}/CatalogQuery`, `${DISCOVERY}/Resolve`, "waymark.dns.v1.DnsService/ResolveName"]) {
        const asked = rpc.endsWith("Query") ? query : { ...resolve, name: "web.svc.a.waymark", ...AS_OPERATOR };
        const { namespace: _, ...named } = { namespace: "", ...asked };
        const refused = await post(node, rpc, rpc.includes("dns") ? named : asked, who);
        expect([refused.status, JSON.stringify(refused.body)]).toEqual([status, expect.stringContaining("viewer.as_operator")]);
      }
    }

    expect(await run(node, operator, "discovery", "watch", "--prefix", "svc.b", "--until-synced", "--as-operator")).toMatch(
      /HIDDEN BY\n.*web.*svc\.b\n/,
    );
    expect(await run(node, operator, "discovery", "query", "--prefix", "svc", "--explain")).toContain("2 entries are hidden by rule svc.b");
    expect(await run(node, READER, "discovery", "query", "--prefix", "svc", "--explain")).not.toContain("hidden");
    expect(await run(node, READER, "discovery", "query", "--prefix", "svc", "--as-operator")).toContain("mesh.operate");
    const explained = await run(node, operator, "dns", "explain", "web.svc.a.waymark", "--as-operator");
    expect(explained).toMatch(/^TOPIC +DETAIL +HIDDEN BY$/m);
    expect(explained).toMatch(/^record +web\.svc\.a\.waymark\. 30 IN A 192\.0\.2\.1 +svc\.a$/m);
    expect(explained).toMatch(/^policy +namespace svc\.a is hidden from this viewer \(viewer_denied, rule svc\.a\)/m);
    expect(await run(node, operator, "dns", "explain", "web.svc.a.waymark")).toMatch(/^answer +NXDOMAIN/m);

    const audited = async () => {
      const audit = await node.post("operator", "/waymark.policy.v1.PolicyService/AccessAudit", { limit: 1000 });
      const { records } = (await audit.json()) as { records: readonly Record<string, string>[] };
      return records.filter(({ action }) => action === "operator_view").toReversed();
    };
    const granted = (await audited()).filter(({ outcome }) => outcome === "AUDIT_OUTCOME_ALLOWED");
    expect(granted.map(({ principal, detail }) => `${principal} ${detail}`)).toEqual([
      "operator-app CatalogQuery",
      "operator-app CatalogQuery",
      "operator-app Resolve web",
      "operator-app SummaryQuery",
      "operator-app CatalogWatch",
      "operator-app ResolveName web.svc.a.waymark",
    ]);
    // Refusals of one caller within a second share a record.
    const refused = async () => {
      const counts: Record<string, number> = {};
      for (const { outcome, principal = "", detail = "" } of await audited())
        if (outcome === "AUDIT_OUTCOME_DENIED")
          counts[principal] = (counts[principal] ?? 0) + Number(/; (\d+) calls refused$/.exec(detail)?.[1] ?? 1);
      return counts;
    };
    await expect.poll(refused, { timeout: 10_000 }).toEqual({ reader: 4, "a-app": 3, "": 3 });
  },
);
