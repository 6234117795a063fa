/** Counts of what nodes say. */
import { expect, test } from "vitest";
import { WireTraffic } from "../../../src/fabric/transport/link-stream.ts";

test("frames and bytes add up by direction and kind", () => {
  const traffic = new WireTraffic();
  traffic.count("sent", "hello", 10);
  traffic.count("sent", "records", 100);
  traffic.count("sent", "records", 50);
  traffic.count("received", "records", 7);
  expect(traffic.rows()).toEqual([
    { direction: "sent", kind: "hello", frameCount: 1, sizeBytes: 10 },
    { direction: "sent", kind: "records", frameCount: 2, sizeBytes: 150 },
    { direction: "received", kind: "records", frameCount: 1, sizeBytes: 7 },
  ]);
});
