import packet from "dns-packet";
import { expect, test } from "vitest";
import type { DnsRecord } from "../../../src/dns/records/record.ts";
import { ZoneMessages } from "../../../src/dns/transfer/zone-messages.ts";
import { questionBytes } from "../asking.ts";

test("a record that fits into no message is left out, and no name of those after it points to where it was", () => {
  const question = questionBytes(252, "waymark").subarray(12);
  const messages = new ZoneMessages({ id: 7, question, opt: new Uint8Array(), paddedWithBytes: undefined });
  const text = (name: string, count: number): DnsRecord => ({
    type: "TXT",
    name,
    ttlSeconds: 1,
    data: { strings: Array.from({ length: count }, () => "x".repeat(255)) },
  });
  // The first of a message, and one behind another.
  const sent = [text("huge.waymark", 300), text("a.huge.waymark", 1), text("vast.waymark", 300), text("a.vast.waymark", 1)].flatMap(
    (record) => [...messages.add(record)],
  );
  const records = [...sent, messages.end()].flatMap((bytes) => packet.decode(Buffer.from(bytes)).answers ?? []);
  expect(records.map(({ name }) => name)).toEqual(["a.huge.waymark", "a.vast.waymark"]);
});
