/** A stream of a client, as its server sees it: the requests, and answers that a test plays. */
import { RequestError, type RequestErrorFacts } from "../../src/client/request-error.ts";

export function failure(code: string, facts: Partial<RequestErrorFacts> = {}): RequestError {
  const none = { reason: undefined, violations: [], retryMs: undefined, metadata: {}, isReachable: true, isSent: true, server: "x" };
  return new RequestError(code, { code, ...none, ...facts });
}

type Step<Answer> = { readonly answer: Answer } | { readonly end: RequestError | undefined };

export class PlayedStream<Request, Answer> {
  readonly server: string;
  readonly requests: Request[] = [];
  readonly #steps: Step<Answer>[] = [];
  #wake = () => {};
  isOver = false;

  constructor(server: string, signal: AbortSignal | undefined) {
    this.server = server;
    signal?.addEventListener("abort", () => this.end(failure("CANCELLED")));
  }

  send(request: Request): void {
    this.requests.push(request);
  }

  play(answer: Answer): void {
    this.#push({ answer });
  }

  end(error: RequestError | undefined): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#push({ end: error });
  }

  #push(step: Step<Answer>): void {
    this.#steps.push(step);
    this.#wake();
  }

  async *answers(): AsyncIterable<Answer> {
    for (;;) {
      const step = this.#steps.shift();
      if (step === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      } else if ("answer" in step) yield step.answer;
      else if (step.end === undefined) return;
      else throw step.end;
    }
  }
}
