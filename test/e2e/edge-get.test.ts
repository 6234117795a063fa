/** Calls by GET: a request without fields is empty in protobuf. */
import { expect, test } from "vitest";
import { startDemoEdge } from "../fakes/edge.ts";

test("a GET in protobuf needs no message: a request without fields has no bytes", async () => {
  await using served = await startDemoEdge();
  for (const query of ["encoding=proto", "encoding=proto&message=", "encoding=proto&base64=1&message=", "encoding=json&message=%7B%7D"]) {
    const { status } = await fetch(`${served.base}/waymark.discovery.v1.DiscoveryService/CatalogQuery?connect=v1&${query}`);
    expect([query, status]).toEqual([query, 200]);
  }
});
