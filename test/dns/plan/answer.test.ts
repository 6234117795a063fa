import { expect, test } from "vitest";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import type { DnsCatalog } from "../../../src/dns/subject/subject.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { entryView, FakeDnsCatalog, gatewayView, nodeView } from "../../fakes/dns-catalog.ts";
import { sized } from "../../fakes/effort.ts";
import { type AskedType, ask as askOf, newResponder, type Told, wordOf } from "../asking.ts";

type Settings = NonNullable<Parameters<typeof newResponder>[0]>["settings"];

function ask(catalog: DnsCatalog, type: AskedType, name: string, settings: Settings = {}): Told {
  return askOf(newResponder({ settings }), catalog, type, name);
}

/** One instance of each kind, seen by everyone. */
function market(): FakeDnsCatalog {
  return new FakeDnsCatalog([
    entryView({ name: "web", targets: [{ host: "10.0.0.1" }] }),
    entryView({ kind: KIND.QUEUE, name: "orders", targets: [{ host: "10.0.0.2" }] }),
    entryView({ kind: KIND.FUNCTION, name: "price", targets: [{ host: "10.0.0.3" }] }),
    entryView({ kind: KIND.TOPIC, name: "events", targets: [{ host: "10.0.0.4" }] }),
    nodeView("n1", ["grpc://10.9.0.1:1"]),
  ]);
}

test.each([
  { type: 1, name: "web.market.waymark", rcode: "NOERROR", answers: 1, soa: false },
  { type: 28, name: "web.market.waymark", rcode: "NOERROR", answers: 0, soa: true },
  { type: 15, name: "web.market.waymark", rcode: "NOERROR", answers: 0, soa: true },
  { type: 65_535, name: "web.market.waymark", rcode: "NOERROR", answers: 0, soa: true },
  // NXNAME, which only who signs refuses (RFC 9824).
  { type: 128, name: "web.market.waymark", rcode: "NOERROR", answers: 0, soa: true },
  { type: 255, name: "web.market.waymark", rcode: "NOERROR", answers: 1, soa: false },
  { type: 1, name: "market.waymark", rcode: "NOERROR", answers: 0, soa: true },
  { type: 1, name: "waymark", rcode: "NOERROR", answers: 0, soa: true },
  { type: 6, name: "waymark", rcode: "NOERROR", answers: 1, soa: false },
  { type: 2, name: "waymark", rcode: "NOERROR", answers: 1, soa: false },
  { type: 6, name: "web.market.waymark", rcode: "NOERROR", answers: 0, soa: true },
  { type: 1, name: "nope.market.waymark", rcode: "NXDOMAIN", answers: 0, soa: true },
  { type: 1, name: "nope.waymark", rcode: "NXDOMAIN", answers: 0, soa: true },
  { type: 1, name: "events.market.waymark", rcode: "NXDOMAIN", answers: 0, soa: true },
  { type: 1, name: "n1.discovery.nodes.waymark", rcode: "NXDOMAIN", answers: 0, soa: true },
  { type: 1, name: "we\\046b.market.waymark", rcode: "NXDOMAIN", answers: 0, soa: true },
  { type: 1, name: "example.com", rcode: "REFUSED", answers: 0, soa: false },
  { type: 1, name: "", rcode: "REFUSED", answers: 0, soa: false },
  { type: 252, name: "waymark", rcode: "REFUSED", answers: 0, soa: false },
  { type: 251, name: "waymark", rcode: "REFUSED", answers: 0, soa: false },
])("type $type of $name: rcode $rcode, $answers answers, SOA $soa", ({ type, name, rcode, answers, soa }) => {
  const answer = ask(market(), type, name);
  expect(answer.rcode).toBe(rcode);
  expect(answer.answers.length).toBe(answers);
  expect(wordOf(answer.authority, 2)).toEqual(soa ? ["SOA"] : []);
  expect(answer.isAuthoritative).toBe(rcode !== "REFUSED");
});

test.each([
  "market.gone",
  "_tcp.gone.market",
  "_dns-sd._udp.gone.market",
  "a._udp.market",
  "b32-jzxwizj2g4.market",
  "_y.market",
  "_tcp.b32-jzxwizj2g4.market",
])("a name above an alias exists, whatever its labels: %s", (above) => {
  const alias = `_x.${above}`;
  const told = (aliases: readonly string[], name: string) =>
    ask(new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }], aliases })]), "A", `${name}.waymark`);
  expect(told([alias], alias).answers).toHaveLength(2);
  expect(told([alias], above)).toMatchObject({ rcode: "NOERROR", answers: [] });
  expect(told([`${alias}.waymark`], above)).toMatchObject({ rcode: "NOERROR", answers: [] });
  expect(told([], above).rcode).toBe("NXDOMAIN");
  expect(told([`x${above}`], above).rcode).toBe("NXDOMAIN");
});

test("a name above another zone of the gateway exists, whatever is in that zone", () => {
  const settings = { zones: ["waymark", "a.svc.waymark"], reverseZones: ["10.b.waymark"] };
  const told = (names: readonly string[]) => names.map((name) => ask(new FakeDnsCatalog(), "A", name, settings).rcode);
  expect(told(["svc.waymark", "b.waymark", "a.svc.waymark"])).toEqual(["NOERROR", "NOERROR", "NOERROR"]);
  expect(told(["vc.waymark", "x.svc.waymark", "x.a.svc.waymark", "waymark.waymark"])).toEqual(Array.from({ length: 4 }, () => "NXDOMAIN"));
});

test("DS of a zone in another one is answered by the one above it, and of the others by themselves", () => {
  const settings = { zones: ["waymark", "a.svc.waymark", "x.a.svc.waymark"], reverseZones: ["10.in-addr.arpa", "1.10.in-addr.arpa"] };
  const told = (name: string) => {
    const { rcode, isAuthoritative, answers, authority } = ask(market(), 43, name, settings);
    expect([name, rcode, isAuthoritative, answers]).toEqual([name, "NOERROR", true, []]);
    return wordOf(authority, 0);
  };
  expect(Object.fromEntries([...settings.zones, ...settings.reverseZones, "web.market.waymark"].map((name) => [name, told(name)]))).toEqual(
    {
      waymark: ["waymark."],
      "a.svc.waymark": ["waymark."],
      "x.a.svc.waymark": ["a.svc.waymark."],
      "10.in-addr.arpa": ["10.in-addr.arpa."],
      "1.10.in-addr.arpa": ["10.in-addr.arpa."],
      "web.market.waymark": ["waymark."],
    },
  );
  // All other types are of the zone that begins there.
  expect(wordOf(ask(market(), "A", "a.svc.waymark", settings).authority, 0)).toEqual(["a.svc.waymark."]);
});

test("only class IN is answered", () => {
  for (const other of [0, 3, 4, 254, 255]) {
    expect(askOf(newResponder(), market(), "A", "web.market.waymark", other).rcode).toBe("REFUSED");
  }
});

test("class CHAOS is refused, so that nobody is told what runs here", () => {
  for (const name of ["version.bind", "hostname.bind", "id.server", "waymark"]) {
    const answer = askOf(newResponder(), market(), "TXT", name, 3);
    expect(answer).toMatchObject({ rcode: "REFUSED", answers: [], authority: [], additional: [] });
  }
});

test("a negative answer may be kept for the negative ttl, in the SOA's TTL and in its minimum", () => {
  const [soa] = ask(market(), "A", "nope.waymark", { negativeTtlMs: 7_000 }).authority;
  expect(soa).toMatch(/^waymark\. 7 SOA .* 7$/);
});

test("what is hidden from a viewer and what does not exist are told apart by nothing", () => {
  const visible = market();
  const hiding: DnsCatalog = {
    version: 1,
    changes: visible.changes,
    takePlanDependencies: () => visible.takePlanDependencies(),
    find: (kind, namespace, name, port) => (name === "web" ? [] : visible.find(kind, namespace, name, port)),
    has: (kind, namespace, name, port) => name !== "web" && visible.has(kind, namespace, name, port),
    hasNameUnder: (suffix, zone) => visible.hasNameUnder(suffix, zone),
    findAlias: () => [],
    gateways: () => [],
    services: () => ({ items: [], isCut: false }),
    atAddress: () => ({ items: [], isCut: false }),
    sampleCount: 0,
    view: new FakeDnsCatalog().view,
    takeHidden: () => [],
    takeSampled: () => false,
    onHidden: () => {},
  };
  for (const type of ["A", "AAAA", "TXT", "SRV"] as const) {
    for (const prefix of ["", "_tcp.", "_svc._tcp."]) {
      expect(ask(hiding, type, `${prefix}web.market.waymark`)).toEqual(ask(hiding, type, `${prefix}never.market.waymark`));
    }
  }
});

test("every order of addresses comes up, about as often as any other", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }, { host: "10.0.0.3" }] }),
  ]);
  const rng = new Rng("shuffle");
  const responder = newResponder({ random: () => rng.next() });
  const counts = new Map<string, number>();
  const draws = sized(6_000, 1_200);
  for (let i = 0; i < draws; i++) {
    const order = askOf(responder, catalog, "A", "web.market.waymark").answers.join();
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  expect(counts.size).toBe(6);
  // Five standard deviations.
  for (const count of counts.values()) expect(Math.abs(count - draws / 6)).toBeLessThan(5 * Math.sqrt((draws * 5) / 36));
});

test.each([
  { why: "hosts that differ in their letters", hosts: ["db.example.com", "DB.Example.com", "db.example.com."], priorities: [0, 0, 0] },
  { why: "priorities that their bound makes equal", hosts: ["db.example.com", "db.example.com"], priorities: [1000, 2000] },
])("no two SRV records of a set are equal: $why", ({ hosts, priorities }) => {
  const entries = hosts.map((host, i) =>
    entryView({ name: "web", instanceId: `i${i}`, targets: [{ host, port: 80, priority: priorities[i] ?? 0 }] }),
  );
  const { answers } = askOf(newResponder(), new FakeDnsCatalog(entries), "SRV", "_svc._tcp.web.market.waymark");
  const priority = Math.min(999, priorities[0] ?? 0);
  expect(answers).toEqual([`_svc._tcp.web.market.waymark. 30 SRV ${priority} 1 80 db.example.com.`]);
});

test("shuffling SRV records never puts a sick one before a healthy one", () => {
  const healths = [HEALTH.CRITICAL, HEALTH.HEALTHY, HEALTH.DEGRADED, HEALTH.HEALTHY, HEALTH.ORPHANED, HEALTH.DEGRADED];
  const catalog = new FakeDnsCatalog(
    healths.map((health, i) => entryView({ name: "web", instanceId: `i${i}`, health, targets: [{ host: `10.0.${health}.${i}` }] })),
  );
  const rng = new Rng("srv");
  const responder = newResponder({ random: () => rng.next() });
  const firsts = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const { answers, additional } = askOf(responder, catalog, "SRV", "_svc._tcp.web.market.waymark");
    const targets = wordOf(answers, -1);
    expect(targets.map((target) => Number(target.split("-")[2]))).toEqual([1, 1, 2, 2, 3, 5]);
    // A reader that takes only the first few additional records gets those of the first targets.
    expect(wordOf(additional, 0)).toEqual(targets);
    firsts.add(targets[0] ?? "");
  }
  expect(firsts.size).toBe(2);
});

test("every name an SRV answer gives for an address answers with that address", () => {
  const hosts = ["10.0.0.1", "2001:db8::1", "::1", "255.255.255.255"];
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: hosts.map((host) => ({ host })) })]);
  const { answers, additional } = ask(catalog, "SRV", "_svc._tcp.web.market.waymark");
  expect(answers.length).toBe(hosts.length);
  for (const glue of additional) {
    const [name = "", , type = ""] = glue.split(" ");
    const [own] = ask(catalog, type as "A" | "AAAA", name.slice(0, -1)).answers;
    expect(wordOf([own ?? ""], -1)).toEqual(wordOf([glue], -1));
  }
  expect(new Set(wordOf(additional, -1))).toEqual(new Set(hosts));
});

test("a chain of host names ends after a few steps", () => {
  const catalog = new FakeDnsCatalog(
    Array.from({ length: 20 }, (_, i) => entryView({ name: `s${i}`, targets: [{ host: `s${i + 1}.market.waymark` }] })),
  );
  expect(ask(catalog, "A", "s0.market.waymark").answers.length).toBe(8);
});

test("a CNAME into a name that is not there says so, with the CNAME", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "gone.market.waymark" }] })]);
  const answer = ask(catalog, "A", "web.market.waymark");
  expect(answer.rcode).toBe("NXDOMAIN");
  expect(answer.answers).toEqual(["web.market.waymark. 30 CNAME gone.market.waymark."]);
  expect(answer.authority.length).toBe(1);
});

test("outside our zones nothing is denied, only refused, also when such names are tried", () => {
  const settings = { allowExternalNames: true };
  expect(ask(market(), "A", "web.market", settings).answers).toEqual(["web.market. 30 A 10.0.0.1"]);
  expect(ask(market(), "A", "web.nowhere", settings).rcode).toBe("REFUSED");
  expect(ask(market(), "A", "", settings).rcode).toBe("REFUSED");
  expect(ask(market(), "A", "nope.waymark", settings).rcode).toBe("NXDOMAIN");
});

/** A catalog that counts how often it is asked. */
function counting(catalog: FakeDnsCatalog): { readonly catalog: DnsCatalog; readonly asked: () => number } {
  let count = 0;
  const counted: DnsCatalog = {
    version: 1,
    changes: catalog.changes,
    takePlanDependencies: () => catalog.takePlanDependencies(),
    find: (...name) => {
      count += 1;
      return catalog.find(...name);
    },
    has: (...name) => {
      count += 1;
      return catalog.has(...name);
    },
    hasNameUnder: (suffix, zone) => catalog.hasNameUnder(suffix, zone),
    findAlias: (name, zone) => catalog.findAlias(name, zone),
    gateways: () => [],
    services: () => ({ items: [], isCut: false }),
    atAddress: () => ({ items: [], isCut: false }),
    sampleCount: 0,
    view: new FakeDnsCatalog().view,
    takeHidden: () => [],
    takeSampled: () => false,
    onHidden: () => {},
  };
  return { catalog: counted, asked: () => count };
}

/** The letters of a text in upper case where the number has a bit. */
function spelled(text: string, number: number): string {
  return text.replaceAll(/[a-z]/g, (letter, at: number) => ((number >> at) & 1 ? letter.toUpperCase() : letter));
}

test("a name is looked up once for the additional section, however its letters are written", () => {
  const back = entryView({ name: "back", targets: [{ host: "10.0.0.1" }] });
  const hosts = Array.from({ length: 60 }, (_, i) => ({ host: spelled("back.market.waymark", i), port: i + 1 }));
  const { catalog, asked } = counting(new FakeDnsCatalog([back, entryView({ name: "web", targets: hosts })]));
  const { answers, additional } = ask(catalog, "SRV", "_svc._tcp.web.market.waymark");
  expect(answers.length).toBe(60);
  expect(additional).toEqual([expect.stringMatching(/^back\.market\.waymark\. \d+ A 10\.0\.0\.1$/)]);
  expect(asked()).toBe(2);
});

test("names with many addresses are looked up for the additional section until it is full, whoever leads to how many of them", () => {
  const thousand = (net: number) => Array.from({ length: 1_000 }, (_, i) => ({ host: `10.${net}.${i >> 8}.${i & 255}` }));
  const backs = Array.from({ length: 30 }, (_, i) => entryView({ name: `back-${i}`, targets: thousand(i) }));
  const web = entryView({ name: "web", targets: backs.map(({ key }) => ({ host: `${key.name}.market.waymark` })) });
  const { catalog, asked } = counting(new FakeDnsCatalog([...backs, web]));
  expect(ask(catalog, "SRV", "_svc._tcp.web.market.waymark").answers.length).toBe(30);
  expect(asked()).toBeLessThan(10);
});

test("a service with addresses and host names has no CNAME beside its addresses: for a family that it lacks there is just none", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "db.example.org" }, { host: "10.0.0.1" }] })]);
  expect(ask(catalog, "A", "web.market.waymark").answers.map((line) => line.split(" ")[2])).toEqual(["A"]);
  for (const type of ["AAAA", "CNAME"] as const) {
    const { rcode, answers } = ask(catalog, type, "web.market.waymark");
    expect([rcode, answers]).toEqual(["NOERROR", []]);
  }
});

test("a name with a CNAME answers it for every type, and the answer goes on at its target", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", targets: [{ host: "10.0.0.1" }], aliases: ["shop.market"] }),
    entryView({ name: "front", targets: [{ host: "web.market.waymark" }] }),
    entryView({ name: "db", targets: [{ host: "db.example.org" }] }),
    entryView({ name: "bare", metadata: { "waymark.dns.cname": "db.example.org" } }),
    nodeView("n5", ["grpc://n5.example.org:1"]),
  ]);
  const targets = { shop: "web.market.waymark", front: "web.market.waymark", db: "db.example.org", bare: "db.example.org" };
  const names = [...Object.entries(targets).map(([name, target]) => [`${name}.market`, target]), ["n5.node", "n5.example.org"]];
  for (const [name = "", target = ""] of names)
    for (const type of ["A", "AAAA", "TXT", "SRV", "CNAME", "SOA", "NS", "ANY", 15, 99, 257] as const) {
      const { answers } = ask(catalog, type, `${name}.waymark`);
      // RFC 1034, 4.3.2: a question for CNAME or ANY is not led on.
      const goesOn = target === "web.market.waymark" && (type === "A" || type === "TXT");
      expect([name, type, answers[0], answers.length]).toEqual([name, type, `${name}.waymark. 30 CNAME ${target}.`, goesOn ? 2 : 1]);
    }
});

test("a function or a queue without targets is at the advertised endpoints of its node", () => {
  const price = { kind: KIND.FUNCTION, name: "price", nodeId: "n7" };
  const urls = [
    "grpc://10.9.0.7:17420",
    "fabric://10.9.0.7:17421",
    "https://[2001:db8::9]:17480/ui",
    "http://n7.example.org:80",
    "http://10.9.0.7",
  ];
  const away = nodeView("n7", ["grpc://10.8.0.7:17420"]);
  const catalog = new FakeDnsCatalog([
    // The node of another cluster that has the same id.
    { ...away, key: { ...away.key, clusterId: "us-1" } },
    entryView(price),
    entryView({ ...price, instanceId: "i2", targets: [{ host: "10.0.0.2", port: 9 }] }),
    entryView({ ...price, instanceId: "i3", health: HEALTH.CRITICAL, nodeId: "n8" }),
    entryView({ ...price, instanceId: "i4", nodeId: "gone" }),
    entryView({ kind: KIND.QUEUE, name: "orders", nodeId: "n8" }),
    entryView({ name: "web", nodeId: "n8" }),
    { ...nodeView("n7", urls), ttlMs: 20_000 },
    nodeView("n8", ["grpc://10.9.0.8:17420"]),
  ]);
  const srv = (name: string) => {
    const { answers } = ask(catalog, "SRV", `${name}.waymark`);
    return answers.map((line) => line.split(" ").slice(1).join(" "));
  };
  expect(srv("_rpc._tcp.price.market").toSorted()).toEqual([
    "20 SRV 0 1 17420 10-9-0-7.addr.node.waymark.",
    "20 SRV 0 1 17480 2001-db8-0-0-0-0-0-9.addr.node.waymark.",
    "20 SRV 0 1 80 10-9-0-7.addr.node.waymark.",
    "20 SRV 0 1 80 n7.example.org.",
    "20 SRV 0 1 9 10-0-0-2.addr.node.waymark.",
    "20 SRV 20000 1 17420 10-9-0-8.addr.node.waymark.",
  ]);
  expect(srv("_queue._tcp.orders.market")).toEqual(["30 SRV 0 1 17420 10-9-0-8.addr.node.waymark."]);
  // A service without targets has none.
  expect(srv("_svc._tcp.web.market")).toEqual([]);
});

test("a serving node that is not well is named as its own entry says, and not as that of another cluster with its id", () => {
  const unwell = (host: string) => gatewayView("n1", { host, grpcHost: "10.9.9.9", health: HEALTH.DEGRADED });
  const away = unwell("10.8.0.1");
  const catalog = new FakeDnsCatalog([
    { ...away, key: { ...away.key, clusterId: "ap-1" } },
    unwell("10.9.0.1"),
    gatewayView("n2", { host: "10.9.0.2" }),
  ]);
  expect(wordOf(ask(catalog, "NS", "waymark").answers, -1)).toEqual(["10-9-0-1.addr.node.waymark.", "n2.node.waymark."]);
});

test("of hosts that are not read, A and AAAA are cut, also where another entry only has more ports", () => {
  const crowd = Array.from({ length: 4_094 }, (_, i) => entryView({ name: "web", instanceId: `i${i}`, targets: [{ host: "10.0.0.1" }] }));
  const hosts = entryView({ name: "web", instanceId: "a", targets: [{ host: "10.0.0.2" }, { host: "10.0.0.3" }] });
  const ports = entryView({ name: "web", instanceId: "b", targets: [{ host: "10.0.0.4" }, { host: "10.0.0.4", port: 81 }] });
  const told = (...two: readonly (typeof hosts)[]) => {
    const { answers, isTruncated } = ask(new FakeDnsCatalog([...two, ...crowd]), "A", "web.market.waymark");
    return [answers.length, isTruncated];
  };
  expect([told(ports, hosts), told(hosts, ports), told(ports)]).toEqual([
    [3, true],
    [3, true],
    [2, false],
  ]);
});

test("what a resolver knows for two more seconds is told for no longer, with its additional records and its denials", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }] })]);
  Object.assign(catalog, { takeLeftMs: () => 2_900 });
  const { answers, additional } = ask(catalog, "SRV", "_svc._tcp.web.market.waymark");
  expect(wordOf([...answers, ...additional], 1)).toEqual(["2", "2", "2", "2"]);
  expect(wordOf(ask(catalog, "AAAA", "web.market.waymark").authority, 1)).toEqual(["2"]);
});

test("the node of a function counts in its answer only while it is not in MAINTENANCE", () => {
  const node = { ...nodeView("n7", ["grpc://10.9.0.7:17420"]), health: HEALTH.MAINTENANCE };
  const catalog = new FakeDnsCatalog([entryView({ kind: KIND.FUNCTION, name: "price", nodeId: "n7" }), node]);
  const { rcode, answers } = ask(catalog, "SRV", "_rpc._tcp.price.market.waymark");
  expect([rcode, answers]).toEqual(["NOERROR", []]);
});

test("a list has at most 500 names and is the whole set, without TC, because a resolver could do nothing about that over TCP", () => {
  const crowd = (count: number) =>
    new FakeDnsCatalog(
      Array.from({ length: count }, (_, i) => entryView({ name: "web", instanceId: `i${i}`, targets: [{ host: "10.0.0.1" }] })),
    );
  const name = "_svc._tcp.web.market.waymark";
  for (const count of [500, 501]) {
    const answer = askOf(newResponder(), crowd(count), "PTR", name);
    expect({ listed: answer.answers.length, isTruncated: answer.isTruncated }).toEqual({ listed: 500, isTruncated: false });
  }
  // Instances of two clusters may have one id, and have one name.
  const twice = new FakeDnsCatalog(
    ["eu-1", "us-1"].map((clusterId) => {
      const entry = entryView({ name: "web", targets: [{ host: `10.0.0.${clusterId.length}`, port: clusterId === "eu-1" ? 80 : 81 }] });
      return { ...entry, key: { ...entry.key, clusterId } };
    }),
  );
  expect(askOf(newResponder(), twice, "PTR", name).answers).toEqual([`${name}. 30 PTR i1.${name}.`]);
  expect(askOf(newResponder(), twice, "SRV", `i1.${name}`).answers).toHaveLength(2);
});

test.each([
  { what: "a short list", count: 3, size: 1, most: 3 },
  { what: "a long list", count: 100, size: 1, most: 64 },
  { what: "a list of large texts", count: 60, size: 1000, most: 17 },
])("SRV and TXT of the instances go along with $what, of as many as are bounded", ({ count, size, most }) => {
  const metadata = Object.fromEntries(Array.from({ length: size / 100 }, (_, i) => [`k${i}`, "x".repeat(97)]));
  const entries = Array.from({ length: count }, (_, i) =>
    entryView({ name: "web", instanceId: `i${i}`, targets: [{ host: "10.0.0.1", port: 1 + i }], metadata }),
  );
  const name = "_svc._tcp.web.market.waymark";
  const { answers, additional, isTruncated } = askOf(newResponder(), new FakeDnsCatalog(entries), "PTR", name);
  expect([answers.length, isTruncated]).toEqual([count, false]);
  const told = Map.groupBy(additional, (line) => line.split(" ")[0]);
  expect(told.size).toBeLessThanOrEqual(most);
  expect(told.size).toBeGreaterThan(most - 3);
  for (const lines of told.values()) expect(lines.map((line) => line.split(" ")[2])).toEqual(["SRV", "TXT"]);
});

test("services are listed at most 500 at a time", () => {
  const names = Array.from({ length: 501 }, (_, i) => entryView({ name: `web${i}`, targets: [{ host: "10.0.0.1" }] }));
  const answer = askOf(newResponder(), new FakeDnsCatalog(names), "PTR", "_services._dns-sd._udp.market.waymark");
  expect({ listed: answer.answers.length, isTruncated: answer.isTruncated }).toEqual({ listed: 500, isTruncated: false });
});

test.each([
  { type: "A", name: "web.market.waymark", told: 1 },
  { type: "SRV", name: "_svc._tcp.web.market.waymark", told: 1 },
  { type: "SVCB", name: "_svc._tcp.web.market.waymark", told: 1 },
  // What lists names, or tells facts, is whole or says that it is not.
  { type: "PTR", name: "_svc._tcp.web.market.waymark", told: 3 },
  { type: "PTR", name: "_services._dns-sd._udp.market.waymark", told: 2 },
  { type: "TXT", name: "web.market.waymark", told: 3 },
] as const)("of $type at $name an answer limit of 1 leaves $told records", ({ type, name, told }) => {
  const entries = [1, 2, 3].map((i) =>
    entryView({ name: "web", instanceId: `i${i}`, targets: [{ host: `10.0.0.${i}`, port: i, protocol: "https" }], tags: [`t${i}`] }),
  );
  const catalog = new FakeDnsCatalog([...entries, entryView({ name: "api", targets: [{ host: "10.0.0.4" }] })]);
  const limited = Object.assign(catalog, { view: { index: 0, locality: undefined, answerLimit: 1 } });
  const answer = askOf(newResponder(), limited, type, name);
  expect({ told: answer.answers.length, isTruncated: answer.isTruncated }).toEqual({ told, isTruncated: false });
});

test.each([
  ["_services._dns-sd._udp.market.waymark", "NOERROR"],
  ["_services._dns-sd._udp.web.market.waymark", "NOERROR"],
  ["_dns-sd._udp.web.market.waymark", "NOERROR"],
  ["_udp.web.market.waymark", "NOERROR"],
  ["_services._dns-sd._udp.none.market.waymark", "NXDOMAIN"],
])("where all is drained, %s is %s and lists nothing", (name, rcode) => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }], health: HEALTH.MAINTENANCE })]);
  const { answers, ...told } = askOf(newResponder(), catalog, "PTR", name);
  expect([told.rcode, answers]).toEqual([rcode, []]);
});

test("of an SRV set with a limit the backup is told only after all primaries, whatever their weights and their places in the catalog", () => {
  const targets = [9, 0, 9, 0].map((priority, i) => ({ host: `10.0.0.${i}`, priority, weight: priority === 0 ? 0 : 1000 }));
  const entries = [entryView({ name: "web", targets })];
  for (const srvPriority of ["health", "target"] as const)
    for (const [answerLimit, priorities] of [
      [1, ["0"]],
      [2, ["0", "0"]],
      [3, ["0", "0", "9"]],
    ] as const) {
      const responder = newResponder({ settings: { srvPriority } });
      const { answers } = askOf(responder, new FakeDnsCatalog(entries, { answerLimit }), "SRV", "_svc._tcp.web.market.waymark");
      expect([answerLimit, wordOf(answers, 3)]).toEqual([answerLimit, priorities]);
    }
});

test("an answer limit is that of the whole set: what clients prefer comes first, and takes the room of the rest", () => {
  const entries = [HEALTH.HEALTHY, HEALTH.DEGRADED].flatMap((health) =>
    [1, 2, 3].map((i) => {
      const instanceId = `${health}-${i}`;
      return entryView({ name: "web", instanceId, health, targets: [{ host: `10.0.${health}.${i}` }] });
    }),
  );
  for (const [answerLimit, priorities] of [
    [2, ["0", "0"]],
    [4, ["0", "0", "0", "10000"]],
    [9, ["0", "0", "0", "10000", "10000", "10000"]],
  ] as const) {
    const { answers } = askOf(newResponder(), new FakeDnsCatalog(entries, { answerLimit }), "SRV", "_svc._tcp.web.market.waymark");
    expect([answerLimit, wordOf(answers, 3)]).toEqual([answerLimit, priorities]);
  }
});
