/** Views of DNS at real nodes: which source sees what, and who is refused. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, test } from "vitest";
import { isDigThere } from "../fakes/dig.ts";
import { type QuerySpec, queryBytes, responseText } from "../fakes/dns-text.ts";
import { filesAbout } from "../fakes/given-files.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { newZoneKey, toldByGateway, toldByName } from "../fakes/zone-keys.ts";

const file = filesAbout("dns-views");

/** Of the loopback network, so that a socket can be bound to them. */
const RED = "127.0.2.1";
const BLUE = "127.0.3.1";
const STRANGER = "127.0.9.1";

async function ask(node: NodeProcess, from: string, name: string, type: QuerySpec["type"] = "A"): Promise<string> {
  const socket = createSocket("udp4");
  try {
    socket.bind(0, from);
    await once(socket, "listening");
    const answered = once(socket, "message", { signal: AbortSignal.timeout(20_000) });
    socket.send(queryBytes({ name: `${name}.waymark`, type }), Number((node.listeners["dns"] ?? "").split(":").at(-1)), "127.0.0.1");
    const [answer] = (await answered) as [Buffer];
    return responseText(answer);
  } finally {
    socket.close();
  }
}

const rcodeOf = (answer: string): string | undefined => answer.split(/\s/)[0];

const POLICY = JSON.stringify({
  version: "v1",
  default_allow: true,
  rules: [
    { namespace: "svc.red", visibility_tenants: ["red"] },
    { namespace: "svc.clusters", visibility: ["other"] },
  ],
});
const VIEWS = `
[[dns.views]]
prefixes = ["127.0.2.0/24"]
tenant = "red"
[[dns.views]]
prefixes = ["127.0.3.0/24"]
cluster = "other"
answer_limit = 1
`;

async function start(more = "", flags: readonly string[] = []): Promise<NodeProcess> {
  const node = await startNodeProcess([
    "--ephemeral",
    ...flags,
    "--policy",
    file("json", POLICY),
    "--config",
    file("toml", `${more}\n${VIEWS}`),
  ]);
  for (const namespace of ["svc.all", "svc.red", "svc.clusters"])
    await node.run(["register", "--namespace", namespace, "--name", "web", "--target", "10.0.0.1:80", "--instance", "1"]);
  await node.run([
    "register",
    "--namespace",
    "svc.all",
    "--name",
    "two",
    "--target",
    "10.0.0.1:80",
    "--target",
    "10.0.0.2:80",
    "--instance",
    "1",
  ]);
  return node;
}

test.each([{ workers: "0" }, { workers: "2" }])(
  "each source sees what its view sees, and ResolveName knows the keys of the zone, with $workers read workers",
  { tags: ["night"] },
  async ({ workers }) => {
    await using node = await start(`[dns]\ndnssec_key_file = "${file("pem", newZoneKey())}"`, ["--workers", workers]);
    const seen = async (from: string) =>
      Promise.all(["web.svc.all", "web.svc.red", "web.svc.clusters"].map(async (name) => rcodeOf(await ask(node, from, name))));
    // In turns, so that what is kept for one view is not given to another.
    for (let round = 0; round < 2; round++) {
      expect(await seen(RED)).toEqual(["NOERROR", "NOERROR", "NXDOMAIN"]);
      expect(await seen(BLUE)).toEqual(["NOERROR", "NXDOMAIN", "NOERROR"]);
      expect(await seen(STRANGER)).toEqual(["NOERROR", "NXDOMAIN", "NXDOMAIN"]);
    }
    // The view of BLUE has a limit of one record, which is no cut answer.
    const lines = async (from: string) => (await ask(node, from, "two.svc.all")).split("\n");
    expect((await lines(RED)).length).toBe(3);
    expect([(await lines(BLUE)).length, (await lines(BLUE))[0]]).toEqual([2, "NOERROR aa"]);
    expect(await toldByName(node)).not.toContain("");
    if (isDigThere()) expect(await toldByName(node)).toEqual(await toldByGateway(node));
    // The type that says in a denial that there is no such name. Where nothing is signed it is any unknown type.
    expect((await node.run(["dns", "explain", "none.svc.all.waymark", "TYPE128"])).stdout).toMatch(/FORMERR[^]*30/);
  },
);

test("what a view does not see is answered as what is not there: the same rcode, records, TTLs and SOA, for every type, and above and below names", async () => {
  await using node = await start();
  const types = ["A", "AAAA", "SRV", "TXT", "CNAME", "SOA", "NS", "PTR", "ANY"] as const;
  // The absent names have the length of the hidden ones. The serial may move between two questions.
  const plain = (answer: string) => answer.replaceAll("rez", "red").replace(/(hostmaster\S+) \d+/, "$1 SERIAL");
  for (const from of [BLUE, STRANGER])
    for (const name of ["web.svc.re", "svc.re", "_svc._tcp.web.svc.re", "_tcp.web.svc.re", "below.web.svc.re"])
      for (const type of types) {
        const [hidden, absent] = [await ask(node, from, `${name}d`, type), await ask(node, from, `${name}z`, type)];
        expect(plain(hidden)).toBe(plain(absent));
        expect(rcodeOf(hidden)).toBe("NXDOMAIN");
      }
  expect(rcodeOf(await ask(node, RED, "web.svc.red"))).toBe("NOERROR");
});

test("where callers without a credential may do nothing, a source without a view is refused, whether the name exists or not", {
  tags: ["night"],
}, async () => {
  await using node = await start();
  await using closed = await start('[tenants]\nanonymous = "none"');
  expect(rcodeOf(await ask(node, STRANGER, "web.svc.all"))).toBe("NOERROR");
  for (const name of ["web.svc.all", "web.svc.red", "none.svc.all"]) expect(rcodeOf(await ask(closed, STRANGER, name))).toBe("REFUSED");
  expect(rcodeOf(await ask(closed, RED, "none.svc.all"))).toBe("NXDOMAIN");
});
