/** How long the answers of two HTTP listeners are, which are compared for as many bytes. */
import { contentOf, type HttpRequest, HttpWire } from "./_http.ts";
import type { Running } from "./_processes.ts";
import { INSTANCES } from "./_work.ts";

/** Answers are equally long where they differ by no more. */
const LENGTH_TOLERANCE = 0.02;

/** Bytes of an answer, which must hold the instances of one service. */
export async function lengthOf(at: Running["grpc"], request: HttpRequest): Promise<number> {
  const wire = await HttpWire.open(at);
  const content = contentOf(await wire.ask(request));
  wire.close();
  const answer = JSON.parse(content.toString("utf8")) as readonly unknown[] | { readonly items: readonly unknown[] };
  const { length } = "items" in answer ? answer.items : answer;
  if (length !== INSTANCES) throw new Error(`${request.path}: ${length} instances where ${INSTANCES} are asked for`);
  return content.length;
}

export function areEqual(a: number, b: number): boolean {
  return Math.abs(a - b) <= LENGTH_TOLERANCE * Math.min(a, b);
}
