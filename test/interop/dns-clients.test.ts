/** Programs that others wrote ask a real node over DNS: tools, the resolvers of Go and Python, and a validating Unbound in front. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { ROOT, run } from "../../scripts/run.ts";
import { type NodeProcess, startNodeProcess, withClient } from "../fakes/node-process.ts";
import { startUnbound } from "../fakes/unbound.ts";
import { until } from "../fakes/until.ts";
import { areDnsClientsThere, findDnsPython, isGoThere } from "./needs.ts";

const NAME = "web.svc.shop.waymark";
const SRV = `_svc._tcp.${NAME}`;
const [hasClients, hasGo] = [await areDnsClientsThere(), await isGoThere()];
const portOf = (node: NodeProcess): string => (node.listeners["dns"] ?? "").split(":").at(-1) ?? "";

/** While a node has the service. */
async function withService(use: (node: NodeProcess) => Promise<void>): Promise<void> {
  await using node = await startNodeProcess(["--ephemeral"]);
  await withClient(node, async (client) => {
    const targets = ["10.0.0.1", "10.0.0.2"].map((host) => ({ host, port: 8080, protocol: "https" }));
    await using registered = await client.register([
      { key: { kind: EntryKind.SERVICE, namespace: "svc.shop", name: "web", instanceId: "1" }, targets },
    ]);
    expect(registered).toBeDefined();
    await use(node);
  });
}

async function printed(command: string, ...args: readonly string[]): Promise<string> {
  return (await run(command, args)).output;
}

describe.skipIf(!hasClients)(`tools${hasClients ? "" : " (skipped: needs kdig, drill, delv and unbound)"}`, () => {
  test("kdig, drill, delv and nslookup read the same records", async () => {
    await withService(async (node) => {
      const port = portOf(node);
      const texts = await Promise.all([
        printed("kdig", "@127.0.0.1", "-p", port, "+retry=3", SRV, "SRV"),
        printed("drill", "-p", port, "@127.0.0.1", SRV, "SRV"),
        printed("delv", "@127.0.0.1", "-p", port, "-i", SRV, "SRV"),
        printed("nslookup", `-port=${port}`, "-type=SRV", SRV, "127.0.0.1"),
      ]);
      const records = texts.map((text) => [...text.matchAll(/(?<=SRV\s|service = )0 1 8080 \S+/g)].map(([record]) => record).toSorted());
      const want = ["0 1 8080 10-0-0-1.addr.node.waymark.", "0 1 8080 10-0-0-2.addr.node.waymark."];
      expect(records).toEqual(texts.map(() => want));
      const bindings = await printed("kdig", "@127.0.0.1", "-p", port, "+retry=3", "+tcp", NAME, "HTTPS");
      expect(bindings).toMatch(/HTTPS\s1 \. alpn="?http\/1\.1"? port=8080/);
    });
  });

  test("a validating Unbound in front answers what the gateway does, and that a name does not exist", async () => {
    await withService(async (node) => {
      await using unbound = await startUnbound(portOf(node), ['domain-insecure: "waymark"']);
      const ask = (...words: readonly string[]) =>
        printed("kdig", "@127.0.0.1", "-p", `${unbound.port}`, "+noall", "+header", "+answer", ...words);
      await until("it answers", async () => (await ask("waymark", "SOA")).includes("NOERROR"));
      expect(await ask(NAME, "A")).toMatch(/NOERROR[^]*10\.0\.0\.[12]\n[^]*10\.0\.0\.[12]\n/);
      expect(await ask(SRV, "SRV")).toMatch(/NOERROR[^]*0 1 8080 10-0-0-[12]\.addr\.node\.waymark\.\n/);
      expect(await ask("svc.shop.waymark", "A")).toContain("NOERROR");
      expect(await ask(`nope.${NAME}`, "A")).toContain("NXDOMAIN");
    });
  });
});

test.skipIf(!hasGo)(
  `Go's resolver finds addresses and SRV records, and that a name does not exist${hasGo ? "" : " (skipped: needs Go)"}`,
  async () => {
    await withService(async (node) => {
      const { output } = await run("go", ["run", "./dnsclient", `127.0.0.1:${portOf(node)}`, NAME], { cwd: join(ROOT, "test/interop/go") });
      expect(output.trim().split("\n").toSorted()).toEqual(
        [
          "2 addresses <nil>",
          "0 1 8080 10-0-0-1.addr.node.waymark.",
          "0 1 8080 10-0-0-2.addr.node.waymark.",
          "srv <nil>",
          "absent true",
        ].toSorted(),
      );
    });
  },
);

const python = await findDnsPython();
test.skipIf(python === undefined)(
  `Python's resolver finds addresses, SRV and HTTPS records over UDP and TCP, and that a name or a type does not exist${python === undefined ? " (skipped: needs dnspython)" : ""}`,
  async () => {
    await withService(async (node) => {
      const { output } = await run(python ?? "", [join(ROOT, "test/interop/python/dns_client.py"), portOf(node), NAME]);
      const lines = [
        "addresses 10.0.0.1 10.0.0.2",
        "services 0 8080 10-0-0-1.addr.node.waymark. 0 8080 10-0-0-2.addr.node.waymark.",
        "https 1 . 8080",
        "no answer",
        "absent",
      ];
      expect(output.trim().split("\n")).toEqual([...lines, ...lines]);
    });
  },
);
