import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Entry, HealthStatus, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type Manifest, readKubernetes } from "../../../src/cli/kubernetes/manifests.ts";
import { runs, sized } from "../../fakes/effort.ts";

const OPTIONS = { namespacePrefix: "k8s", importer: "tester", clusterDomain: "cluster.local", scope: Scope.ZONE };

function read(text: string, ...addresses: readonly string[]): Manifest {
  return readKubernetes(text, { ...OPTIONS, addresses: new Set(addresses.length === 0 ? ["endpoints"] : addresses) });
}

/** Entries of a manifest that must be free of problems. */
function entriesOf(text: string): readonly Entry[] {
  const { entries, problems } = read(text);
  expect(problems).toEqual([]);
  return entries.map(({ entry }) => entry);
}

function service(spec: string, metadata = ""): string {
  return `apiVersion: v1\nkind: Service\nmetadata:\n  name: web${metadata}\nspec:\n${spec}\n`;
}

function slice(body: string, name = "web-1"): string {
  return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${name}
  labels: { kubernetes.io/service-name: web }
addressType: IPv4
${body}
`;
}

test("a Service without slices is one entry with its cluster DNS name", () => {
  const [entry] = entriesOf(
    service("  ports: [{ name: grpc, port: 50051, targetPort: 8080 }]", "\n  namespace: shop\n  labels: { app: web, empty: '' }"),
  );
  expect(entry).toMatchObject({
    key: { kind: 1, namespace: "k8s.shop", name: "web", instanceId: "cluster" },
    scope: Scope.ZONE,
    targets: [{ name: "grpc", host: "web.shop.svc.cluster.local", port: 50051, protocol: "grpc" }],
    tags: ["app:web", "empty"],
    metadata: { app: "web", empty: "", "kubernetes.type": "ClusterIP", "waymark.import": "tester" },
  });
});

test.each([
  { port: "{ port: 80 }", want: "tcp" },
  { port: "{ port: 80, name: http }", want: "http" },
  { port: "{ port: 80, name: http-admin }", want: "http" },
  { port: "{ port: 80, name: grpc-web-x }", want: "grpc-web" },
  { port: "{ port: 80, name: tcp-redis }", want: "tcp" },
  { port: "{ port: 80, name: metrics }", want: "tcp" },
  { port: "{ port: 80, name: http, appProtocol: kubernetes.io/h2c }", want: "h2c" },
  { port: "{ port: 80, name: http, appProtocol: GRPC }", want: "grpc" },
  { port: "{ port: 80, name: h2c-web }", want: "h2c" },
  { port: "{ port: 80, name: udp-web }", want: "tcp" },
  { port: "{ port: 80, name: dns, protocol: UDP }", want: "udp" },
  { port: "{ port: 80, name: http, protocol: SCTP }", want: "sctp" },
])("port $port speaks $want", ({ port, want }) => {
  expect(entriesOf(service(`  ports: [${port}]`))[0]?.targets[0]?.protocol).toBe(want);
});

test("an instance at an address that no client can connect to is left out with a note", () => {
  const { entries, notes } = read(slice("ports: [{ port: 80 }]\nendpoints:\n  - addresses: [10.0.0.1]\n  - addresses: [240.0.0.1]"));
  expect(entries.map(({ entry }) => entry.targets.map(({ host }) => host))).toEqual([["10.0.0.1"]]);
  expect(notes).toEqual(["Service web: target 240.0.0.1 was left out: a reserved address"]);
});

test.each([
  { what: "an ExternalName", text: service("  type: ExternalName\n  externalName: 0.0.0.0"), note: "0.0.0.0: an unspecified address" },
  {
    what: "an endpoint without ports",
    text: slice("endpoints:\n  - addresses: ['fe80::1']"),
    note: "fe80::1: a link-local address without a zone",
  },
  {
    what: "a cluster address",
    text: service("  clusterIP: 240.0.0.1\n  ports: [{ port: 80 }]"),
    note: "240.0.0.1: a reserved address",
  },
])("$what that no client can connect to makes no entry without targets", ({ text, note }) => {
  const { entries, problems, notes } = read(text, "endpoints", "cluster");
  expect({ hosts: entries.map(({ entry }) => entry.targets.map(({ host }) => host)), problems, notes }).toEqual({
    hosts: [],
    problems: [],
    notes: [`Service web: target ${note.replace(": ", " was left out: ")}`],
  });
});

test("a headless Service leads to the pods, so their port counts", () => {
  const [entry] = entriesOf(service("  clusterIP: None\n  ports: [{ port: 80, targetPort: 8080 }]"));
  expect(entry).toMatchObject({ targets: [{ port: 8080 }], metadata: { "kubernetes.type": "Headless" } });
});

test("a headless Service without ports and without slices becomes a target with its name and without a port", () => {
  const [entry] = entriesOf(service("  clusterIP: None"));
  expect(entry?.targets).toMatchObject([{ name: "", host: "web.default.svc.cluster.local", port: 0 }]);
});

test.each([
  { what: "null", ports: "ports: null" },
  { what: "no list", ports: "" },
  { what: "an empty list", ports: "ports: []" },
  { what: "all ports", ports: "ports: [{ name: any }]" },
])("endpoints with $what as their ports are targets without a port", ({ ports }) => {
  const [entry] = entriesOf(`${service("  clusterIP: None")}---\n${slice(`${ports}\nendpoints: [{ addresses: [10.0.0.1] }]`)}`);
  expect(entry?.targets).toMatchObject([{ name: "", host: "10.0.0.1", port: 0 }]);
});

test("addresses in front of a Service without ports are targets without a port", () => {
  const { entries } = read(service("  clusterIP: 10.96.0.1\n  clusterIPs: [10.96.0.1, 'fd00::1']"), "cluster");
  expect(entries[0]?.entry.targets.map(({ host, port }) => [host, port])).toEqual([
    ["10.96.0.1", 0],
    ["fd00::1", 0],
  ]);
});

test.each([
  { host: "db.example.com", ports: "[{ port: 5432 }]", want: [5432] },
  { host: "db.example.com", ports: "[]", want: [0] },
  { host: "192.0.2.1", ports: "[{ port: 5432 }]", want: [5432] },
  { host: "192.0.2.1", ports: "[]", want: [0] },
])("ExternalName $host with the ports $ports becomes targets with that host, for names and for addresses", ({ host, ports, want }) => {
  const { entries, notes } = read(service(`  type: ExternalName\n  externalName: ${host}\n  ports: ${ports}`));
  expect(entries.map(({ entry }) => entry.targets.map((target) => [target.host, target.port]))).toEqual([want.map((port) => [host, port])]);
  expect(entries[0]?.entry.metadata).toEqual({
    "kubernetes.external-name": host,
    "kubernetes.type": "ExternalName",
    "waymark.import": "tester",
  });
  expect(notes).toEqual([]);
});

test.each([
  { name: "", says: "is missing" },
  { name: "http://db.example.com", says: '"http://db.example.com" is not a DNS name' },
  { name: "db example.com", says: "is not a DNS name" },
  { name: "db..example.com", says: "is not a DNS name" },
  { name: `${"a".repeat(64)}.example.com`, says: "is not a DNS name" },
  { name: "db.example.com:5432", says: "is not a DNS name" },
  { name: "256.0.2.1", says: "is not a DNS name" },
  { name: "192.0.2", says: "is not a DNS name" },
])("an ExternalName with the name '$name' is a problem, not an entry", ({ name, says }) => {
  const { entries, problems } = read(service(`  type: ExternalName\n  externalName: "${name}"`));
  expect(entries).toEqual([]);
  expect(problems.map(({ message }) => message)).toEqual([expect.stringMatching(/^Service \S+: spec.externalName: /)]);
  expect(problems[0]?.message).toContain(says);
});

test("an ExternalName may end with a dot, and other Services may say anything there", () => {
  expect(read(service("  type: ExternalName\n  externalName: db.example.com.")).problems).toEqual([]);
  expect(read(service('  type: ClusterIP\n  externalName: "not a name"')).problems).toEqual([]);
});

test.each([
  { conditions: "{}", want: "HEALTHY" },
  { conditions: "{ ready: true }", want: "HEALTHY" },
  { conditions: "{ ready: false }", want: "CRITICAL" },
  { conditions: "{ ready: false, serving: false }", want: "CRITICAL" },
  { conditions: "{ ready: false, serving: true, terminating: true }", want: "DEGRADED" },
  { conditions: "{ ready: false, serving: false, terminating: true }", want: "MAINTENANCE" },
  { conditions: "{ ready: true, terminating: true }", want: "DEGRADED" },
] as const)("conditions $conditions are $want", ({ conditions, want }) => {
  const [entry] = entriesOf(slice(`ports: [{ port: 80 }]\nendpoints: [{ addresses: [10.0.0.1], conditions: ${conditions} }]`));
  expect(entry?.health).toBe(HealthStatus[want]);
});

test("each endpoint is an entry with its zone, pod and node; the Service gives the labels", () => {
  const endpoints = `ports: [{ name: http, port: 8080 }]
endpoints:
  - addresses: [10.0.0.1, 10.0.0.9]
    zone: eu-1a
    nodeName: worker-1
    targetRef: { kind: Pod, name: web-abc }
  - addresses: [10.0.0.2]`;
  const entries = entriesOf(`${service("  ports: [{ port: 80 }]", "\n  labels: { app: web }")}---\n${slice(endpoints)}`);
  expect(
    entries.map(({ key, zone, tags, targets }) => ({
      id: key?.instanceId,
      zone,
      tags,
      hosts: targets.map(({ host, port }) => `${host}:${port}`),
    })),
  ).toEqual([
    { id: "web-abc", zone: "eu-1a", tags: ["app:web"], hosts: ["10.0.0.1:8080"] },
    { id: "10.0.0.2", zone: "", tags: ["app:web"], hosts: ["10.0.0.2:8080"] },
  ]);
  expect(entries[0]?.metadata).toMatchObject({ "kubernetes.pod": "web-abc", "kubernetes.node": "worker-1" });
});

test("slices of one endpoint are joined: a second address family, a port more", () => {
  const pod = "targetRef: { kind: Pod, name: p }";
  const four = slice(`ports: [{ name: http, port: 80 }]\nendpoints: [{ addresses: [10.0.0.1], ${pod} }]`, "a");
  const six = slice(`ports: [{ name: http, port: 80 }]\nendpoints: [{ addresses: ["fd00::1"], ${pod} }]`, "b").replace("IPv4", "IPv6");
  const again = slice(`ports: [{ name: http, port: 80 }, { name: grpc, port: 90 }]\nendpoints: [{ addresses: [10.0.0.1], ${pod} }]`, "c");
  for (const order of [
    [four, six, again],
    [again, six, four],
  ]) {
    const entries = entriesOf(order.join("---\n"));
    expect(entries).toHaveLength(1);
    expect(entries[0]?.targets.map(({ name, host, port }) => [name, host, port])).toEqual([
      ["http", "10.0.0.1", 80],
      ["", "fd00::1", 80],
      ["grpc", "10.0.0.1", 90],
    ]);
  }
});

/** Two EndpointSlices of one pod, each with an address and its conditions. */
function twoSlices(first: string, second: string): string {
  const of = (address: string, conditions: string) =>
    `ports: [{ name: http, port: 80 }]\nendpoints: [{ addresses: ["${address}"], conditions: ${conditions}, targetRef: { kind: Pod, name: p } }]`;
  return `${slice(of("10.0.0.1", first), "a")}---\n${slice(of("fd00::1", second), "b").replace("IPv4", "IPv6")}`;
}

test.each([
  { first: "{ ready: true }", second: "{ ready: false }", want: { health: "HEALTHY", hosts: ["10.0.0.1"] } },
  { first: "{ ready: false }", second: "{ ready: true }", want: { health: "HEALTHY", hosts: ["fd00::1"] } },
  {
    first: "{ ready: true, terminating: true }",
    second: "{ ready: false, serving: false, terminating: true }",
    want: { health: "DEGRADED", hosts: ["10.0.0.1"] },
  },
  { first: "{ ready: false }", second: "{ ready: false }", want: { health: "CRITICAL", hosts: ["10.0.0.1", "fd00::1"] } },
] as const)("of a pod with the conditions $first and $second only the best addresses are targets", ({ first, second, want }) => {
  const { entries, notes } = read(twoSlices(first, second));
  expect(entries.map(({ entry }) => ({ health: HealthStatus[entry.health], hosts: entry.targets.map(({ host }) => host) }))).toEqual([
    want,
  ]);
  expect(entries[0]?.entry.targets[0]?.name).toBe("http");
  const out = ["10.0.0.1", "fd00::1"].filter((host) => !want.hosts.some((each) => each === host));
  expect(notes).toEqual(out.map((host) => `Service web: ${host} of p was left out: other addresses of p have better health`));
});

test("an address that is ready in one slice, and not in another, is ready", () => {
  const at = (ready: boolean, name: string) =>
    slice(`ports: [{ port: 80 }]\nendpoints: [{ addresses: [10.0.0.1], conditions: { ready: ${ready} } }]`, name);
  const { entries, notes } = read(`${at(false, "a")}---\n${at(true, "b")}`);
  expect(entries.map(({ entry }) => [entry.health, entry.targets.length])).toEqual([[HealthStatus.HEALTHY, 1]]);
  expect(notes).toEqual([]);
});

test("addresses of Endpoints that are not ready do not become targets if the pod is ready at another address", () => {
  const pod = "targetRef: { kind: Pod, name: p }";
  const subsets = `subsets:\n  - addresses: [{ ip: 10.0.0.1, ${pod} }]\n    notReadyAddresses: [{ ip: 10.0.0.2, ${pod} }]\n    ports: [{ port: 80 }]\n`;
  const entries = entriesOf(`apiVersion: v1\nkind: Endpoints\nmetadata: { name: web }\n${subsets}`);
  expect(entries.map(({ health, targets }) => [health, targets.map(({ host }) => host)])).toEqual([[HealthStatus.HEALTHY, ["10.0.0.1"]]]);
});

test.each([
  { conditions: "{ ready: false }", want: "HEALTHY" },
  { conditions: "{ ready: false, serving: false }", want: "HEALTHY" },
  { conditions: "{ ready: true, serving: false, terminating: true }", want: "HEALTHY" },
  { conditions: "{ ready: true, serving: true, terminating: true }", want: "HEALTHY" },
] as const)("publishNotReadyAddresses makes an endpoint with the conditions $conditions $want", ({ conditions, want }) => {
  const endpoints = slice(`ports: [{ port: 80 }]\nendpoints: [{ addresses: [10.0.0.1], conditions: ${conditions} }]`);
  const [entry] = entriesOf(`${service("  clusterIP: None\n  publishNotReadyAddresses: true")}---\n${endpoints}`);
  expect(HealthStatus[entry?.health ?? 0]).toBe(want);
});

test("two port names with the same number become two targets for each address", () => {
  const ports = "ports: [{ name: http, port: 80 }, { name: http-web, port: 80 }]";
  const pod = "targetRef: { kind: Pod, name: p }";
  const four = slice(`${ports}\nendpoints: [{ addresses: [10.0.0.1], ${pod} }]`, "a");
  const six = slice(`${ports}\nendpoints: [{ addresses: ["fd00::1"], ${pod} }]`, "b").replace("IPv4", "IPv6");
  expect(entriesOf(`${four}---\n${six}`).map(({ targets }) => targets.map(({ name, host }) => [name, host]))).toEqual([
    [
      ["http", "10.0.0.1"],
      ["http-web", "10.0.0.1"],
      ["", "fd00::1"],
    ],
  ]);
  const { entries } = read(service("  clusterIP: 10.96.0.1\n  ports: [{ name: a, port: 80 }, { name: b, port: 80 }]"), "cluster");
  expect(entries[0]?.entry.targets.map(({ name }) => name)).toEqual(["a", "b"]);
});

test("a pod's host name is a name below its Service's", () => {
  const endpoints = "endpoints: [{ addresses: [10.0.0.1], hostname: web-0 }, { addresses: [10.0.0.2] }]";
  expect(entriesOf(slice(`ports: [{ port: 80 }]\n${endpoints}`)).map(({ aliases }) => aliases)).toEqual([["web-0.web.k8s.default"], []]);
});

const ENDPOINTS = `apiVersion: v1
kind: Endpoints
metadata: { name: web }
subsets:
  - addresses: [{ ip: 10.0.0.1, hostname: web-0, nodeName: n, targetRef: { kind: Pod, name: web-abc } }]
    notReadyAddresses: [{ ip: 10.0.0.2 }]
    ports: [{ name: http, port: 8080 }]
  - addresses: [{ ip: 10.0.0.3 }]
    ports: null
`;

test("Endpoints say what slices say, and count where there are none", () => {
  expect(
    entriesOf(ENDPOINTS).map(({ key, health, aliases, targets }) => [key?.instanceId, health, aliases, targets.map(({ host }) => host)]),
  ).toEqual([
    ["web-abc", HealthStatus.HEALTHY, ["web-0.web.k8s.default"], ["10.0.0.1"]],
    ["10.0.0.2", HealthStatus.CRITICAL, [], ["10.0.0.2"]],
    ["10.0.0.3", HealthStatus.HEALTHY, [], ["10.0.0.3"]],
  ]);
  const both = `${ENDPOINTS}---\n${slice("ports: [{ port: 80 }]\nendpoints: [{ addresses: [10.0.0.9] }]")}`;
  expect(entriesOf(both).map(({ key }) => key?.instanceId)).toEqual(["10.0.0.9"]);
});

test.each([
  { addresses: ["endpoints"], want: ["10.0.0.9 10.0.0.9"] },
  { addresses: ["cluster"], want: ["cluster 10.96.0.1 fd00::1"] },
  { addresses: ["load-balancer"], want: ["load-balancer 192.0.2.7 lb.example.com"] },
  { addresses: ["endpoints", "cluster"], want: ["10.0.0.9 10.0.0.9", "cluster 10.96.0.1 fd00::1"] },
] as const)("of $addresses the targets are $want", ({ addresses, want }) => {
  const spec = "  type: LoadBalancer\n  clusterIP: 10.96.0.1\n  clusterIPs: [10.96.0.1, 'fd00::1']\n  ports: [{ name: http, port: 80 }]\n";
  const status = "status: { loadBalancer: { ingress: [{ ip: 192.0.2.7 }, { hostname: lb.example.com }] } }\n";
  const endpoints = slice("ports: [{ port: 8080 }]\nendpoints: [{ addresses: [10.0.0.9] }]");
  const { entries, problems } = read(`${service(spec)}${status}---\n${endpoints}`, ...addresses);
  expect(problems).toEqual([]);
  const said = entries.map(({ entry: { key, targets } }) => [key?.instanceId, ...targets.map(({ host }) => host)].join(" "));
  expect(said.toSorted()).toEqual([...want]);
});

test("a Service without the addresses that were asked for is left out, and told", () => {
  const { entries, notes } = read(service("  clusterIP: None\n  ports: [{ port: 80 }]"), "cluster", "load-balancer");
  expect({ entries, notes }).toEqual({ entries: [], notes: ["Service web was left out: it has none of the requested addresses"] });
});

test("a Service whose slices are empty has no entry: nobody answers", () => {
  expect(entriesOf(`${service("  ports: [{ port: 80 }]")}---\n${slice("ports: null\nendpoints: null")}`)).toEqual([]);
});

test("other kinds, and Services of other groups, are counted and left alone", () => {
  const { entries, ignored, problems } = read(`
kind: Deployment
apiVersion: apps/v1
---
kind: Deployment
apiVersion: apps/v1
---
kind: Service
apiVersion: serving.knative.dev/v1
---
`);
  expect({ entries, problems }).toEqual({ entries: [], problems: [] });
  expect(Object.fromEntries(ignored)).toEqual({ Deployment: 2, "Service of serving.knative.dev/v1": 1 });
});

test("the list that kubectl prints as JSON is read, items and their lines", () => {
  // What kubectl prints for an empty map.
  const NOTHING: unknown = JSON.parse("null");
  const item = (name: string, port: number) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, labels: NOTHING },
    spec: { ports: [{ port }] },
  });
  const list = { apiVersion: "v1", kind: "List", items: [item("a", 1), item("b", 2), item("c", 70_000)] };
  const text = JSON.stringify(list, undefined, 2);
  const { entries, problems } = read(text);
  expect(entries.map(({ entry }) => entry.key?.name)).toEqual(["a", "b"]);
  const line = text.split("\n").findIndex((each) => each.includes("70000")) + 1;
  expect(problems).toEqual([{ line, message: "Service c: spec.ports.0.port: port is more than 65535" }]);
});

const ITEM = { metadata: { name: "web" }, spec: { ports: [{ port: 80 }] } };
test.each([
  { name: "what kubectl get --raw prints", text: JSON.stringify({ kind: "ServiceList", apiVersion: "v1", items: [ITEM] }) },
  { name: "a list alone", text: JSON.stringify([{ kind: "Service", apiVersion: "v1", ...ITEM }]) },
  {
    name: "a list alone, in YAML",
    text: "- kind: Service\n  apiVersion: v1\n  metadata: { name: web }\n  spec: { ports: [{ port: 80 }] }\n",
  },
])("$name is read", ({ text }) => {
  expect(entriesOf(text).map(({ key }) => key?.name)).toEqual(["web"]);
});

test("items of a list of anything must say what they are", () => {
  expect(read(JSON.stringify({ kind: "List", apiVersion: "v1", items: [ITEM] })).problems).toHaveLength(1);
});

test.each([
  { name: "a YAML fault", text: "a: [1\n", line: 2, says: "Flow sequence" },
  { name: "no kind", text: "\n\nfoo: 1\n", line: 3, says: "kind or apiVersion is missing" },
  { name: "a list at the top", text: "- 1\n", line: 1, says: "not a Kubernetes object" },
  { name: "an upper-case name", text: service("  ports: []").replace("web", "Web"), line: 4, says: "not a DNS label" },
  { name: "a namespace that is no label", text: service("  ports: []", "\n  namespace: a.b"), line: 5, says: "not a DNS label" },
  { name: "a label that is no text", text: service("  ports: []", "\n  labels:\n    a: x\n    b: 1"), line: 7, says: "quote it" },
  { name: "a port of text", text: service("  ports:\n    - port: 80\n    - port: http"), line: 8, says: "not a whole number" },
  { name: "port 0", text: service("  ports:\n    - port: 0"), line: 7, says: "less than 1" },
  { name: "an unknown protocol", text: service("  ports:\n    - port: 1\n      protocol: ICMP"), line: 8, says: "TCP, UDP, SCTP" },
  { name: "no spec", text: "apiVersion: v1\nkind: Service\nmetadata: { name: a }\n", line: 1, says: "spec is missing" },
  {
    name: "a Service twice",
    text: `${service("  ports: []")}---\n${service("  ports: []")}`,
    line: 8,
    says: "is already defined at line 1",
  },
  { name: "an endpoint without address", text: slice("ports: []\nendpoints:\n  - addresses: []"), line: 9, says: "addresses is empty" },
  { name: "a key given twice", text: "kind: Service\nkind: Service\n", line: 2, says: "unique" },
  {
    name: "a zone of strange characters",
    text: slice("ports: []\nendpoints: [{ addresses: [10.0.0.1], zone: 'a b' }]"),
    line: 8,
    says: "zone",
  },
])("$name is a problem at line $line", ({ text, line, says }) => {
  const { entries, problems } = read(text);
  expect(problems.map((problem) => problem.line)).toContain(line);
  expect(problems.map(({ message }) => message).join("\n")).toContain(says);
  expect(entries.length).toBeLessThanOrEqual(1);
});

test("a broken document hides neither the good ones nor the other broken ones", () => {
  const { entries, problems } = read(
    `${service("  ports: [{ port: 80 }]")}---\nbad: [\n---\n${service("  ports: [{ port: 0 }]").replace("web", "zero")}---\n${service("  ports: [{ port: 81 }]").replace("web", "last")}`,
  );
  expect(entries.map(({ entry }) => entry.key?.name)).toEqual(["web", "last"]);
  expect(problems.map(({ line }) => line)).toEqual([9, 15]);
});

test("labels too long for metadata are kept as tags, and those too long for tags as metadata", () => {
  const long = `${"x".repeat(50)}.example.com/${"y".repeat(40)}`;
  const { entries, notes } = read(service("  ports: []", `\n  labels:\n    ${long}: v\n    short: ${"z".repeat(125)}`));
  expect(entries[0]?.entry.tags).toEqual([`${long}:v`]);
  expect(entries[0]?.entry.metadata).toMatchObject({ short: "z".repeat(125) });
  expect(notes).toHaveLength(2);
});

/** More than any stack holds. */
const DEEP = sized(100_000, 25_000);

test.each([
  {
    name: "aliases that multiply",
    text: `a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n`,
  },
  { name: "deep nesting", text: "[".repeat(DEEP) },
  { name: "deep nesting in JSON", text: `${"[".repeat(DEEP)}${"]".repeat(DEEP)}` },
  { name: "lists in lists", text: '{"kind":"List","apiVersion":"v1","items":['.repeat(40) + "]}".repeat(40) },
  { name: "YAML without end", text: `a: ${"x".repeat(9 * 1024 * 1024)}` },
  { name: "an alias to itself", text: "a: &a [*a]\nkind: Service\napiVersion: v1\n" },
])("$name cannot hang or crash the import", ({ text }) => {
  expect(read(text).problems.length).toBeGreaterThan(0);
});

test("any text gives entries or problems, never an exception", () => {
  const piece = fc.constantFrom(
    "kind: Service\n",
    "apiVersion: v1\n",
    "---\n",
    "metadata: {name: a}\n",
    "spec: ",
    "ports: [",
    "]",
    "{",
    "- ",
    "&a ",
    "*a\n",
    "? ",
    "null\n",
    "!!set ",
    "\t",
    '"',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 20 }), (pieces) => void read(pieces.join(""))),
    { numRuns: runs(300) },
  );
});

test("the demo manifest is sound and has twelve services", () => {
  const names = entriesOf(readFileSync("docs/examples/online-boutique.yaml", "utf8")).map(({ key }) => key?.name);
  expect(new Set(names).size).toBe(12);
});

// The real application's manifest belongs to somebody else and is not in this repository; where it lies beside it, it is tried.
const REAL = "../shared/data/online-boutique.kubernetes.yaml";
test.each(existsSync(REAL) ? [REAL] : [])("the real application's manifest has the demo's twelve services", (file) => {
  const real = entriesOf(readFileSync(file, "utf8"));
  const demo = entriesOf(readFileSync("docs/examples/online-boutique.yaml", "utf8"));
  expect(new Set(demo.map(({ key }) => key?.name))).toEqual(new Set(real.map(({ key }) => key?.name)));
  expect(real.every(({ targets }) => targets.length > 0)).toBe(true);
});
