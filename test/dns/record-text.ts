/** What the tests of DNS share: records as people read them. */
import { SocketAddress } from "node:net";
import { addressLabel } from "../../src/dns/addresses.ts";
import type { DnsRecord, RecordData, RecordType } from "../../src/dns/records.ts";

function addressText({ address }: RecordData["A"]): string {
  const label = addressLabel(address);
  if (address.length === 4) return label.replaceAll("-", ".");
  return new SocketAddress({ address: label.replaceAll("-", ":"), family: "ipv6" }).address;
}

const TEXTS: { readonly [T in RecordType]: (data: RecordData[T]) => string } = {
  A: addressText,
  AAAA: addressText,
  SRV: ({ priority, weight, port, target }) => `${priority} ${weight} ${port} ${target}.`,
  TXT: ({ strings }) => strings.map((text) => JSON.stringify(text)).join(" "),
  CNAME: ({ target }) => `${target}.`,
  NS: ({ target }) => `${target}.`,
  SOA: ({ primary, mailbox, serial, refreshSeconds, retrySeconds, expireSeconds, minimumSeconds }) =>
    `${primary}. ${mailbox}. ${serial} ${refreshSeconds} ${retrySeconds} ${expireSeconds} ${minimumSeconds}`,
  HINFO: ({ cpu, os }) => `${JSON.stringify(cpu)} ${JSON.stringify(os)}`,
};

function dataText<T extends RecordType>(type: T, data: RecordData[T]): string {
  return TEXTS[type](data);
}

/** A record as a line of a zone file. */
export function recordText({ name, ttlSeconds, type, data }: DnsRecord): string {
  return `${name}. ${ttlSeconds} IN ${type} ${dataText(type, data)}`;
}
