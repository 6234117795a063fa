/** Whether the gateway or at least one process currently answers DNS. The health service reports this state to DNS load balancers. */
export class DnsPresence {
  readonly #followers = new Set<(isOpen: boolean) => void>();
  #isOpen: boolean;

  constructor(isOpen: boolean) {
    this.#isOpen = isOpen;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  set(isOpen: boolean): void {
    if (isOpen === this.#isOpen) return;
    this.#isOpen = isOpen;
    for (const follower of this.#followers) follower(isOpen);
  }

  /** Calls back immediately, and then whenever the state changes. */
  follow(onOpen: (isOpen: boolean) => void): void {
    this.#followers.add(onOpen);
    onOpen(this.#isOpen);
  }
}
