/**
 * A Kubernetes manifest, imported into a real node, as `dig` finds it; skipped where dig is not installed.
 *
 * @module-tag night
 */
import { describe, expect, test } from "vitest";
import { dig, isDigThere, recordsIn } from "../fakes/dig.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const service = (name: string, spec: string, status = ""): string =>
  `apiVersion: v1\nkind: Service\nmetadata: { name: ${name}, namespace: shop }\nspec: ${spec}\n${status}---\n`;
const MANIFEST = [
  service("db", "{ type: ExternalName, externalName: db.example.com }"),
  service("web", "{ clusterIP: None }"),
  `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-4, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: 8080 }, { name: dns, port: 53, protocol: UDP }, { name: sig, port: 2905, protocol: SCTP }]
endpoints:
  - { addresses: [10.0.0.1], hostname: web-0, targetRef: { kind: Pod, name: web-0 } }
  - { addresses: [10.0.0.2], hostname: web-1, targetRef: { kind: Pod, name: web-1 } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-6, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv6
ports: [{ name: http, port: 8080 }, { name: dns, port: 53, protocol: UDP }, { name: sig, port: 2905, protocol: SCTP }]
endpoints:
  - { addresses: ["fd00::1"], hostname: web-0, targetRef: { kind: Pod, name: web-0 } }
---
`,
  service(
    "front",
    "{ type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{ name: https, port: 443 }] }",
    "status: { loadBalancer: { ingress: [{ ip: 192.0.2.7 }] } }\n",
  ),
].join("");

/** Records of the answer, without their ttl, in order of their text. */
async function ask(node: NodeProcess, type: string, name: string): Promise<readonly string[]> {
  return recordsIn(await dig(node.listeners["dns"] ?? "", "+noall", "+answer", type, `${name}.waymark`)).toSorted();
}

async function importing(node: NodeProcess, manifest: string, ...flags: readonly string[]): Promise<string> {
  const { exit, stdout, stderr } = await node.run(["import", "kubernetes", "-", "--prune", "-o", "json", ...flags], manifest);
  expect({ exit, stderr: exit === 0 ? "" : stderr }).toEqual({ exit: 0, stderr: "" });
  return stdout;
}

describe.skipIf(!isDigThere())("an imported manifest", () => {
  test("answers external names, named ports and the host names of headless pods", async () => {
    await using node = await startNodeProcess(["--ephemeral"]);
    await importing(node, MANIFEST);
    expect(await ask(node, "A", "db.k8s.shop")).toEqual(["CNAME db.example.com."]);
    expect(await ask(node, "CNAME", "db.k8s.shop")).toEqual(["CNAME db.example.com."]);
    expect(await ask(node, "SRV", "_http._tcp.web.k8s.shop")).toEqual([
      "SRV 0 1 8080 10-0-0-1.addr.node.waymark.",
      "SRV 0 1 8080 10-0-0-2.addr.node.waymark.",
      "SRV 0 1 8080 fd00-0-0-0-0-0-0-1.addr.node.waymark.",
    ]);
    expect(await ask(node, "SRV", "_dns._udp.web.k8s.shop")).toHaveLength(3);
    expect(await ask(node, "SRV", "_sig._sctp.web.k8s.shop")).toHaveLength(3);
    expect(await ask(node, "SRV", "_svc._tcp.web.k8s.shop")).toHaveLength(3);
    expect(await ask(node, "SRV", "_dns._tcp.web.k8s.shop")).toEqual([]);
    expect(await ask(node, "SRV", "_grpc._tcp.web.k8s.shop")).toEqual([]);
    expect(await ask(node, "A", "web-0.web.k8s.shop")).toEqual(["A 10.0.0.1"]);
    expect(await ask(node, "AAAA", "web-0.web.k8s.shop")).toEqual(["AAAA fd00::1"]);
    expect(await ask(node, "A", "web-1.web.k8s.shop")).toEqual(["A 10.0.0.2"]);
    expect(await ask(node, "A", "web-2.web.k8s.shop")).toEqual([]);
    expect(await ask(node, "A", "web.k8s.shop")).toEqual(["A 10.0.0.1", "A 10.0.0.2"]);
  });

  test("answers names and addresses without a port, and only the ready addresses of a pod", { tags: ["night"] }, async () => {
    await using node = await startNodeProcess(["--ephemeral"]);
    const slice = (name: string, of: string, family: string, body: string) =>
      `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: ${name}, namespace: shop, labels: { kubernetes.io/service-name: ${of} } }
addressType: ${family}\n${body}\n---\n`;
    const pod = (address: string, ready: boolean) =>
      `ports: [{ name: http, port: 80 }]\nendpoints: [{ addresses: ["${address}"], conditions: { ready: ${ready} }, targetRef: { kind: Pod, name: p } }]`;
    const manifest = [
      service("bare", "{ clusterIP: None }"),
      slice("bare-1", "bare", "IPv4", "ports: null\nendpoints: [{ addresses: [10.0.0.1] }, { addresses: [10.0.0.2] }]"),
      service("named", "{ clusterIP: None }"),
      service("outside", "{ type: ExternalName, externalName: 192.0.2.1 }"),
      service("dual", "{ clusterIP: None, ports: [{ name: http, port: 80 }] }"),
      slice("dual-4", "dual", "IPv4", pod("10.0.0.3", true)),
      slice("dual-6", "dual", "IPv6", pod("fd00::3", false)),
    ].join("");
    await importing(node, manifest);
    expect(await ask(node, "A", "bare.k8s.shop")).toEqual(["A 10.0.0.1", "A 10.0.0.2"]);
    expect(await ask(node, "SRV", "_svc._tcp.bare.k8s.shop")).toEqual([]);
    expect(await ask(node, "CNAME", "named.k8s.shop")).toEqual(["CNAME named.shop.svc.cluster.local."]);
    expect(await ask(node, "A", "outside.k8s.shop")).toEqual(["A 192.0.2.1"]);
    expect(await ask(node, "A", "dual.k8s.shop")).toEqual(["A 10.0.0.3"]);
    expect(await ask(node, "AAAA", "dual.k8s.shop")).toEqual([]);
    const { stdout } = await node.run(["discovery", "resolve", "bare", "--namespace", "k8s.shop"]);
    expect(stdout).toMatch(/^chosen .* 10\.0\.0\.[12]\s*$/m);
  });

  test("has the addresses of the cluster and of load balancers when they are asked for", { tags: ["night"] }, async () => {
    await using node = await startNodeProcess(["--ephemeral"]);
    await importing(node, MANIFEST, "--address", "cluster", "--address", "load-balancer");
    expect(await ask(node, "A", "front.k8s.shop")).toEqual(["A 10.96.0.1", "A 192.0.2.7"]);
    expect(await ask(node, "A", "web.k8s.shop")).toEqual([]);
    expect(await ask(node, "A", "db.k8s.shop")).toEqual(["CNAME db.example.com."]);
    await importing(node, MANIFEST, "--address", "load-balancer");
    expect(await ask(node, "SRV", "_https._tcp.front.k8s.shop")).toEqual(["SRV 0 1 443 192-0-2-7.addr.node.waymark."]);
  });

  test("may be a raw list, whose items do not say what they are, and Endpoints", { tags: ["night"] }, async () => {
    await using node = await startNodeProcess(["--ephemeral"]);
    const metadata = { name: "web", namespace: "shop" };
    const raw = { kind: "ServiceList", apiVersion: "v1", metadata: {}, items: [{ metadata, spec: { ports: [{ port: 80 }] } }] };
    await importing(node, JSON.stringify(raw));
    expect(await ask(node, "A", "web.k8s.shop")).toEqual(["CNAME web.shop.svc.cluster.local."]);
    const subsets = [
      { addresses: [{ ip: "10.0.0.5", hostname: "web-0" }], notReadyAddresses: [{ ip: "10.0.0.6" }], ports: [{ port: 8080 }] },
    ];
    await importing(node, JSON.stringify({ kind: "EndpointsList", apiVersion: "v1", items: [{ metadata, subsets }] }));
    expect(await ask(node, "A", "web.k8s.shop")).toEqual(["A 10.0.0.5"]);
    // The pod that is not ready comes last for clients that go by priorities too.
    expect(await ask(node, "SRV", "_svc._tcp.web.k8s.shop")).toEqual([
      "SRV 0 1 8080 10-0-0-5.addr.node.waymark.",
      "SRV 20000 1 8080 10-0-0-6.addr.node.waymark.",
    ]);
    expect(await ask(node, "A", "web-0.web.k8s.shop")).toEqual(["A 10.0.0.5"]);
  });
});
