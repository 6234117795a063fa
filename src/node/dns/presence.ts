/** Whether anybody answers DNS here now: the gateway, or at least one process. Health tells it to who balances DNS. */
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

  /** Calls back now, and whenever it opens or closes. */
  follow(onOpen: (isOpen: boolean) => void): void {
    this.#followers.add(onOpen);
    onOpen(this.#isOpen);
  }
}
