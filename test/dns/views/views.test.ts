import fc from "fast-check";
import { expect, test } from "vitest";
import type { ClientSubnet, QueryClient } from "../../../src/dns/views/query-client.ts";
import { classesOf, DnsViews, type ViewRow, viewersOf } from "../../../src/dns/views/views.ts";
import { parseAddress, parsePlainBlock } from "../../../src/lib/addresses.ts";

const row = (prefixes: readonly string[], listener?: QueryClient["transport"]): ViewRow => ({
  listener,
  prefixes,
  tenant: undefined,
  cluster: undefined,
  region: undefined,
  zone: undefined,
});
const blocks = (...texts: readonly string[]) => texts.flatMap((text) => parsePlainBlock(text) ?? []);
const FORWARDER = "192.0.2.53";

function subnet(text: string): ClientSubnet {
  const [host = "", length = ""] = text.split("/");
  const address = parseAddress(host) ?? new Uint8Array();
  return {
    family: address.length === 4 ? 1 : 2,
    sourcePrefix: Number(length),
    address: address.subarray(0, Math.ceil(Number(length) / 8)),
  };
}

const ROWS = [
  row(["10.0.0.0/8", "2001:db8::/32"]),
  row(["10.1.0.0/16"]),
  row(["10.1.2.0/24"], "tcp"),
  row(["::ffff:172.16.0.0/108"]),
  row(["10.1.3.0/24"], "dot"),
  row(["10.1.4.0/24"], "doh"),
  row(["fe80::/10"]),
];

test.each<{ address: string; transport?: QueryClient["transport"]; want: number }>([
  { address: "10.9.9.9", want: 1 },
  { address: "10.1.9.9", want: 2 },
  { address: "::ffff:10.1.9.9", want: 2 },
  { address: "10.1.2.3", transport: "udp", want: 2 },
  { address: "10.1.2.3", transport: "tcp", want: 3 },
  { address: "10.1.2.3", transport: "dot", want: 2 },
  { address: "10.1.3.3", transport: "dot", want: 5 },
  { address: "10.1.3.3", transport: "tcp", want: 2 },
  { address: "10.1.4.4", transport: "doh", want: 6 },
  { address: "10.1.4.4", transport: "dot", want: 2 },
  { address: "10.1.9.9", transport: "doh", want: 0 },
  { address: "172.16.3.4", want: 4 },
  { address: "172.32.0.1", want: 0 },
  { address: "2001:db8:1::1", want: 1 },
  { address: "2001:db9::1", want: 0 },
  { address: "fe80::1%eth0", want: 7 },
  { address: "", want: 0 },
])(
  "the longest prefix decides: $address over $transport has view $want, also when it asks again",
  ({ address, transport = "udp", want }) => {
    const views = new DnsViews(ROWS, []);
    const queryClient: QueryClient = { address, transport, subnet: undefined };
    const expected = { index: want, scopePrefix: undefined, isBySubnet: false };
    expect([views.choose(queryClient), views.choose(queryClient)]).toEqual([expected, expected]);
  },
);

test("of two prefixes of one length the one that names the listener wins, wherever it stands", () => {
  const views = new DnsViews([row(["10.0.0.0/8"], "tcp"), row(["10.0.0.0/8"])], []);
  const indexOver = (transport: QueryClient["transport"]) => views.choose({ address: "10.0.0.1", transport, subnet: undefined }).index;
  expect([indexOver("tcp"), indexOver("udp")]).toEqual([1, 2]);
});

test.each([
  { what: "a network with a view", of: "10.9.0.0/16", index: 1, scope: 13 },
  { what: "a network beside a longer prefix", of: "10.1.0.0/24", index: 2, scope: 16 },
  { what: "a network with several views gets that of the prefix around all of it", of: "10.0.0.0/8", index: 1, scope: 16 },
  { what: "and if the first of its addresses have another, no prefix that would be shared", of: "10.1.0.0/12", index: 1, scope: 32 },
  { what: "a network without a view", of: "11.0.0.0/8", index: 0, scope: 8 },
  { what: "a network far from all prefixes", of: "203.0.113.0/24", index: 0, scope: 1 },
  { what: "a network of IPv6", of: "2001:db8:7::/48", index: 1, scope: 32 },
  { what: "a mapped network is one of IPv4", of: "::ffff:10.9.0.0/112", index: 1, scope: 109 },
  { what: "and so is all of what is mapped", of: "::ffff:0.0.0.0/96", index: 0, scope: 101 },
])("a client subnet of a trusted forwarder decides: $what", ({ of, index, scope }) => {
  const views = new DnsViews(ROWS.slice(0, 2), blocks(FORWARDER));
  expect(views.choose({ address: FORWARDER, transport: "udp", subnet: subnet(of) })).toEqual({
    index,
    scopePrefix: scope,
    isBySubnet: true,
  });
});

test("a client subnet of anybody else, and one of no bits, decide nothing; what is told to a forwarder of subnets is not for others", () => {
  const views = new DnsViews(ROWS, blocks(FORWARDER));
  const byAddress = { index: 0, scopePrefix: undefined, isBySubnet: false };
  expect(views.choose({ address: "192.0.2.54", transport: "udp", subnet: subnet("10.9.0.0/16") })).toEqual(byAddress);
  expect(views.choose({ address: FORWARDER, transport: "udp", subnet: subnet("0.0.0.0/0") })).toEqual({ ...byAddress, isBySubnet: true });
  expect(views.choose({ address: `::ffff:${FORWARDER}`, transport: "udp", subnet: subnet("10.9.0.0/16") }).index).toBe(1);
});

test("where no view has a prefix of the family, all of the family have the answer, and those of the other may not", () => {
  const views = new DnsViews([row(["10.0.0.0/8"])], blocks(FORWARDER));
  const chosen = views.choose({ address: FORWARDER, transport: "udp", subnet: subnet("2001:db8::/56") });
  expect(chosen).toEqual({ index: 0, scopePrefix: undefined, isBySubnet: true });
});

/** Prefixes of at most 8 bits, so that all networks of 8 bits can be looked at. */
const prefixes = fc.uniqueArray(
  fc.record({ octet: fc.nat(255), bits: fc.nat(8) }).map(({ octet, bits }) => ({ octet: octet & (0xff << (8 - bits)) & 0xff, bits })),
  { maxLength: 12, selector: ({ octet, bits }) => `${octet}/${bits}` },
);

test("every address has the view of its longest prefix, and within the scope that is told everybody has the same", () => {
  fc.assert(
    fc.property(prefixes, fc.nat(255), fc.integer({ min: 1, max: 8 }), (list, octet, bits) => {
      const views = new DnsViews(
        list.map((each) => row([`${each.octet}.0.0.0/${each.bits}`])),
        blocks(FORWARDER),
      );
      const model = (first: number): number => {
        const held = list.flatMap((each, i) => ((first ^ each.octet) >> (8 - each.bits) === 0 ? [{ bits: each.bits, index: i + 1 }] : []));
        return held.toSorted((a, b) => b.bits - a.bits)[0]?.index ?? 0;
      };
      const all = Array.from({ length: 256 }, (_, first) => first);
      for (const first of all)
        expect(views.choose({ address: `${first}.9.9.9`, transport: "udp", subnet: undefined }).index).toBe(model(first));
      const network = octet & (0xff << (8 - bits)) & 0xff;
      const asked = { address: FORWARDER, transport: "udp", subnet: subnet(`${network}.0.0.0/${bits}`) } as const;
      const { index, scopePrefix = 0 } = views.choose(asked);
      const within = (length: number) => all.filter((first) => (first ^ network) >> (8 - Math.min(8, length)) === 0);
      const around = list.flatMap((each, i) =>
        each.bits <= bits && (network ^ each.octet) >> (8 - each.bits) === 0 ? [{ ...each, index: i + 1 }] : [],
      );
      const isOne = new Set(within(bits).map(model)).size === 1;
      if (isOne) expect([index, scopePrefix <= bits]).toEqual([model(network), true]);
      else expect([index, scopePrefix > bits]).toEqual([around.toSorted((a, b) => b.bits - a.bits)[0]?.index ?? 0, true]);
      if (scopePrefix <= 8) for (const first of within(scopePrefix)) expect(model(first)).toBe(index);
    }),
  );
});

test("views with the rights of one caller are one class, and anonymous ones come first", () => {
  const rows = [
    { ...row(["10.0.0.0/8"]), tenant: "red" },
    { ...row(["11.0.0.0/8"]), region: "eu" },
    { ...row(["12.0.0.0/8"]), tenant: "red", zone: "z" },
    { ...row(["13.0.0.0/8"]), cluster: "c2" },
  ];
  const viewers = viewersOf({ views: rows }, { clusterId: "c1", region: "us" });
  const { callers, ofView } = classesOf(viewers);
  expect(callers.map(({ tenant, cluster }) => [tenant, cluster])).toEqual([
    ["", "c1"],
    ["red", "c1"],
    ["", "c2"],
  ]);
  expect(ofView).toEqual([0, 1, 0, 1, 2]);
  const places = viewers.map(({ view }) => view.locality);
  expect(places).toEqual([undefined, undefined, { region: "eu", zone: "" }, { region: "us", zone: "z" }, undefined]);
});

test("a view has the limit of answers that is set for it, and else that of the gateway", () => {
  const views = [row(["10.0.0.0/8"]), { ...row(["11.0.0.0/8"]), answerLimit: 3 }];
  const limitsOf = (answerLimit?: number) =>
    viewersOf({ views, answerLimit }, { clusterId: "c1", region: "us" }).map(({ view }) => view.answerLimit);
  expect([limitsOf(), limitsOf(8)]).toEqual([
    [undefined, undefined, 3],
    [8, 8, 3],
  ]);
});

test("a crowd of addresses is not remembered beyond a bound, and keeps its views", () => {
  const views = new DnsViews(ROWS, []);
  for (let i = 0; i < 5000; i++) {
    const address = `10.${i & 1}.${i >> 8}.${i & 255}`;
    expect(views.choose({ address, transport: "udp", subnet: undefined }).index).toBe((i & 1) + 1);
  }
  expect(views.rememberedCount).toBeLessThanOrEqual(1024);
});
