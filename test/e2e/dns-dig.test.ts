/** What `dig` gets from the gateway; skipped where dig is not installed. */
import { createSocket } from "node:dgram";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { dig, isDigThere } from "../fakes/dig.ts";
import { entryView, FakeDnsCatalog, nodeView } from "../fakes/dns-catalog.ts";
import { startTestGateway, type TestGateway } from "../fakes/dns-gateway.ts";

function market(): FakeDnsCatalog {
  return new FakeDnsCatalog([
    entryView({
      name: "web",
      targets: [
        { host: "10.0.0.1", port: 8080, weight: 5 },
        { host: "2001:db8::1", port: 9090 },
      ],
      tags: ["canary"],
      aliases: ["shop"],
    }),
    entryView({ name: "ext", targets: [{ host: "db.example.com", port: 5432 }] }),
    ...Array.from({ length: 40 }, (_, i) => entryView({ name: "big", instanceId: `i${i}`, targets: [{ host: `10.1.0.${i}` }] })),
    entryView({ name: "site", targets: ["10.2.0.1", "2001:db8::2"].map((host) => ({ host, port: 8443, protocol: "h2" })) }),
    entryView({ name: "cdn", targets: [{ host: "cdn.example.com", port: 443, protocol: "https" }] }),
    nodeView("n1", ["grpc://10.9.0.1:17420"]),
  ]);
}

/** What dig prints, as status, flags and the lines of each section. */
async function ask({ gateway }: TestGateway, ...words: readonly string[]) {
  const stdout = await dig(`127.0.0.1:${gateway.udpPort}`, ...words);
  const section = (name: string): string[] => {
    const text = stdout.split(`;; ${name} SECTION:\n`)[1]?.split("\n\n")[0] ?? "";
    return text
      .split("\n")
      .map((line) => line.replaceAll(/\s+/g, " "))
      .filter((line) => line !== "");
  };
  return {
    status: /status: (\w+)/.exec(stdout)?.[1],
    flags: /flags: ([a-z ]*);/.exec(stdout)?.[1],
    edns: /; EDNS: (.*)/.exec(stdout)?.[1],
    transport: /;; SERVER: .*\((UDP|TCP)\)/.exec(stdout)?.[1],
    question: section("QUESTION"),
    answer: section("ANSWER"),
    authority: section("AUTHORITY"),
    additional: section("ADDITIONAL"),
    stdout,
  };
}

describe.skipIf(!isDigThere())("dig", () => {
  test.each([
    { type: "A", name: "web.market.waymark", lines: ["web.market.waymark. 30 IN A 10.0.0.1"] },
    { type: "AAAA", name: "web.market.waymark", lines: ["web.market.waymark. 30 IN AAAA 2001:db8::1"] },
    {
      type: "TXT",
      name: "web.market.waymark",
      lines: ['web.market.waymark. 30 IN TXT "namespace=market" "scope=zone" "tags=canary" "cluster_id=eu-1" "node_id=n1"'],
    },
    { type: "A", name: "shop.waymark", lines: ["shop.waymark. 30 IN CNAME web.market.waymark.", "web.market.waymark. 30 IN A 10.0.0.1"] },
    { type: "A", name: "ext.market.waymark", lines: ["ext.market.waymark. 30 IN CNAME db.example.com."] },
    { type: "A", name: "n1.node.waymark", lines: ["n1.node.waymark. 30 IN A 10.9.0.1"] },
    { type: "HTTPS", name: "site.market.waymark", lines: ['site.market.waymark. 30 IN HTTPS 1 . alpn="h2" no-default-alpn port=8443'] },
    {
      type: "SVCB",
      name: "_svc._tcp.site.market.waymark",
      lines: [
        '_svc._tcp.site.market.waymark. 30 IN SVCB 1 10-2-0-1.addr.node.waymark. mandatory=port alpn="h2" port=8443 ipv4hint=10.2.0.1',
        '_svc._tcp.site.market.waymark. 30 IN SVCB 1 2001-db8-0-0-0-0-0-2.addr.node.waymark. mandatory=port alpn="h2" port=8443 ipv6hint=2001:db8::2',
      ],
    },
    { type: "SVCB", name: "_svc._tcp.cdn.market.waymark", lines: ["_svc._tcp.cdn.market.waymark. 30 IN SVCB 0 cdn.example.com."] },
    { type: "NS", name: "waymark", lines: ["waymark. 60 IN NS n1.node.waymark."] },
    { type: "ANY", name: "web.market.waymark", lines: ['web.market.waymark. 6 IN HINFO "RFC8482" ""'] },
  ])("dig $type $name", async ({ type, name, lines }) => {
    await using world = await startTestGateway(market());
    const reply = await ask(world, type, name);
    expect({ ...reply, answer: reply.answer.toSorted() }).toMatchObject({ status: "NOERROR", flags: "qr aa", answer: lines });
  });

  test("dig SRV gives targets and, beside them, their addresses, which dig can ask for again", async () => {
    await using world = await startTestGateway(market());
    const reply = await ask(world, "SRV", "_svc._tcp.web.market.waymark");
    expect(reply.answer.toSorted()).toEqual([
      "_svc._tcp.web.market.waymark. 30 IN SRV 0 1 9090 2001-db8-0-0-0-0-0-1.addr.node.waymark.",
      "_svc._tcp.web.market.waymark. 30 IN SRV 0 5 8080 10-0-0-1.addr.node.waymark.",
    ]);
    expect(reply.additional.toSorted()).toEqual([
      "10-0-0-1.addr.node.waymark. 30 IN A 10.0.0.1",
      "2001-db8-0-0-0-0-0-1.addr.node.waymark. 30 IN AAAA 2001:db8::1",
    ]);
    expect((await ask(world, "A", "10-0-0-1.addr.node.waymark")).answer).toEqual(["10-0-0-1.addr.node.waymark. 60 IN A 10.0.0.1"]);
  });

  test.each([
    { what: "no such name", type: "A", name: "nope.market.waymark", status: "NXDOMAIN", authority: 1 },
    { what: "no such type", type: "MX", name: "web.market.waymark", status: "NOERROR", authority: 1 },
    { what: "a name above names", type: "A", name: "market.waymark", status: "NOERROR", authority: 1 },
    { what: "not our zone", type: "A", name: "example.com", status: "REFUSED", authority: 0 },
    { what: "the root", type: "NS", name: ".", status: "REFUSED", authority: 0 },
  ])("$what: dig says $status", async ({ type, name, status, authority }) => {
    await using world = await startTestGateway(market());
    const reply = await ask(world, type, name);
    expect(reply.status).toBe(status);
    expect(reply.answer).toEqual([]);
    expect(reply.authority.length).toBe(authority);
    if (authority === 1)
      expect(reply.authority[0]).toMatch(/^waymark\. 5 IN SOA n1\.node\.waymark\. hostmaster\.waymark\. \d+ 60 30 3600 5$/);
  });

  test("dig SOA of the zone tells the serial of now, also from an answer that is kept", async () => {
    let serial = 1_795_787_058;
    await using world = await startTestGateway(market(), { serialOf: () => serial });
    const told = () => [`waymark. 60 IN SOA n1.node.waymark. hostmaster.waymark. ${serial} 60 30 3600 5`];
    expect((await ask(world, "SOA", "waymark")).answer).toEqual(told());
    // What is not in a version of the zone yet moves nothing.
    world.catalog.add(entryView({ name: "more" }));
    expect((await ask(world, "SOA", "waymark")).answer).toEqual(told());
    serial += 1;
    expect((await ask(world, "SOA", "waymark")).answer).toEqual(told());
  });

  test("the question's case comes back", async () => {
    await using world = await startTestGateway(market());
    const reply = await ask(world, "A", "WeB.mArKeT.WAYMARK");
    expect(reply.question).toEqual([";WeB.mArKeT.WAYMARK. IN A"]);
    expect(reply.answer).toEqual(["WeB.mArKeT.WAYMARK. 30 IN A 10.0.0.1"]);
  });

  test("a large answer is cut at 512 bytes with TC and whole over TCP, where dig goes by itself", async () => {
    await using world = await startTestGateway(market());
    const cut = await ask(world, "+bufsize=512", "+ignore", "SRV", "_svc._tcp.big.market.waymark");
    expect(cut).toMatchObject({ status: "NOERROR", flags: "qr aa tc", transport: "UDP", additional: [] });
    expect(cut.answer.length).toBeGreaterThan(5);
    expect(cut.answer.length).toBeLessThan(40);
    const plain = await ask(world, "+noedns", "+ignore", "SRV", "_svc._tcp.big.market.waymark");
    expect(plain).toMatchObject({ flags: "qr aa tc", edns: undefined });
    const whole = await ask(world, "+bufsize=512", "SRV", "_svc._tcp.big.market.waymark");
    expect(whole).toMatchObject({ flags: "qr aa", transport: "TCP" });
    expect(whole.answer.length).toBe(40);
    expect(whole.additional.length).toBe(40);
    expect(world.count("dns_truncated_total", {})).toBe(3);
    expect(world.count("dns_queries_total", { qtype: "SRV", rcode: "NOERROR", transport: "tcp" })).toBe(1);
  });

  test("EDNS: our size is 1232, a newer version is BADVERS, unknown options and flags are ignored", async () => {
    await using world = await startTestGateway(market());
    expect((await ask(world, "A", "web.market.waymark")).edns).toBe("version: 0, flags:; udp: 1232");
    expect(
      await ask(
        world,
        "+dnssec",
        "+nsid",
        "+cookie",
        "+subnet=192.0.2.0/24",
        "+ednsopt=65001:abcd",
        "+ednsflags=0x40",
        "A",
        "web.market.waymark",
      ),
    ).toMatchObject({
      status: "NOERROR",
      edns: "version: 0, flags: do; udp: 1232",
    });
    expect((await ask(world, "+edns=1", "+noednsneg", "A", "web.market.waymark")).status).toBe("BADVERS");
    expect(await ask(world, "+noedns", "A", "web.market.waymark")).toMatchObject({ status: "NOERROR", edns: undefined });
  });

  test.each([
    { flag: "+opcode=STATUS", status: "NOTIMP" },
    { flag: "+opcode=7", status: "NOTIMP" },
    { flag: "-cCH", status: "REFUSED" },
    { flag: "+header-only", status: "NOERROR" },
    { flag: "+zflag", status: "NOERROR" },
    { flag: "+adflag", status: "NOERROR" },
    { flag: "+cdflag", status: "NOERROR" },
    { flag: "+tcp", status: "NOERROR" },
  ])("dig $flag gets $status", async ({ flag, status }) => {
    await using world = await startTestGateway(market());
    expect((await ask(world, flag, "A", "web.market.waymark")).status).toBe(status);
  });

  test("several questions on one TCP connection are answered in order", async () => {
    await using world = await startTestGateway(market());
    const questions = Array.from({ length: 20 }, (_, i) => ["A", i % 2 === 0 ? "web.market.waymark" : "n1.node.waymark"]).flat();
    const stdout = await dig(`127.0.0.1:${world.gateway.tcpPort}`, "+tcp", "+keepopen", "+short", ...questions);
    expect(stdout.trim().split("\n")).toEqual(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? "10.0.0.1" : "10.9.0.1")));
  });

  test("a fault costs its own query a SERVFAIL and nobody else anything", async () => {
    const catalog = market();
    let isBroken = true;
    await using world = await startTestGateway(catalog, {
      select: () => {
        if (isBroken) throw new Error("the index is broken");
        return onlyView(catalog);
      },
    });
    expect((await ask(world, "A", "web.market.waymark")).status).toBe("SERVFAIL");
    expect(world.faults).toEqual([new Error("the index is broken")]);
    isBroken = false;
    expect((await ask(world, "A", "web.market.waymark")).status).toBe("NOERROR");
  });

  test("garbage on UDP is answered FORMERR or not at all, and good queries go on", async () => {
    await using world = await startTestGateway(market());
    const socket = createSocket("udp4");
    const send = promisify(
      socket.send.bind(socket) as (bytes: Uint8Array, port: number, host: string, done: (error: Error | null) => void) => void,
    );
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    socket.once("message", resolve);
    await send(Uint8Array.of(1, 2, 3), world.gateway.udpPort, "127.0.0.1");
    await send(Uint8Array.of(0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0), world.gateway.udpPort, "127.0.0.1");
    await send(Uint8Array.of(0xab, 0xce, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0), world.gateway.udpPort, "127.0.0.1");
    // The first answer is the third message's.
    expect([...(await promise)]).toEqual([0xab, 0xce, 0x81, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]);
    socket.close();
    expect(world.count("dns_dropped_total", { reason: "malformed" })).toBe(2);
    expect((await ask(world, "A", "web.market.waymark")).status).toBe("NOERROR");
  });
});
