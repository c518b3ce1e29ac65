Feature: Room that runs out costs nothing that was promised
  Contract, sections 3 and 4: thick stays allocated, thin is counted against the over-commit, a full disk never
  prevents a delete.

  @loop
  Scenario Outline: A thick volume takes exactly its size: <fs> on <below>
    Given a running agent with its store on an <below> of 700 MiB
    When a create job of <size> MiB for "thick" is sent with:
      | fs        | <fs>  |
      | provision | thick |
    Then it is answered PENDING and DONE, and nothing else
    And `du` shows <size> MiB for the image

    Examples:
      | fs   | below | size |
      | ext4 | ext4  | 64   |
      | xfs  | ext4  | 300  |
      | ext4 | xfs   | 64   |
      | xfs  | xfs   | 300  |

  @loop
  Scenario: Thin volumes are counted against the store's over-commit
    Given a running agent with its store on an ext4 of 64 MiB
    And a volume of 64 MiB at "first"
    When a create job of 100 MiB for "second/deep" is sent
    Then it fails with "no-space"
    And its reason names "over-commit"
    And "second" does not exist
    And 1 volumes are attached
    When a delete job for "first" is sent
    Then it is answered PENDING and DONE, and nothing else
    When a create job of 100 MiB for "second/deep" is sent
    Then it is answered PENDING and DONE, and nothing else

  @loop @failpoints
  Scenario: The store is filled to its last byte during a create
    Given an agent whose work waits 3000 milliseconds once
    And a running agent with its store on an ext4 of 64 MiB
    When a create job of 32 MiB for "a/b" is sent
    And PENDING has come
    And that file system is filled
    Then it fails with "no-space"
    And nothing is left
    And the agent's log says that the store is short of space
    When that file system has room again
    And the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else

  @loop
  Scenario: The store is filled to its last byte before a delete
    Given a running agent with its store on an ext4 of 64 MiB
    And a volume of 32 MiB at "a"
    And a file at "a/precious"
    When that file system is filled
    And one types "dvs check --state {state} --store {store}={url}"
    Then it prints "0 MiB free of"
    When a delete job for "a" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  @loop
  Scenario: Store and state share a file system that is filled to its last byte before a delete
    Given a running agent with its store and its state on an ext4 of 64 MiB
    And a volume of 16 MiB at "a"
    When that file system is filled
    And a delete job for "a" is sent
    Then it is DONE in the end
    And no volume is attached at "a"
    When that file system has room again
    And a create job of 16 MiB for "b" is sent
    Then it is answered PENDING and DONE, and nothing else

  @loop
  Scenario: The store is filled to its last byte by writes into a thin volume, and the volume is deleted
    Given a running agent with its store on an ext4 of 64 MiB
    And a volume of 100 MiB at "a"
    When a program writes to "a", with fsync after each MiB, until that fails
    And a delete job for "a" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left
    When a create job of 16 MiB for "b" is sent
    Then it is answered PENDING and DONE, and nothing else

  @loop
  Scenario: The store is filled to its last byte by writes into a thin volume, and has room again
    Given a running agent with its store on an ext4 of 96 MiB
    And a volume of 100 MiB at "a" named "a"
    And that file system has only 24 MiB left
    When a program writes to "a", with fsync after each MiB, until that fails
    Then the agent's log says that the store is short of space
    And the agent still runs
    When that file system has room again
    And the agent is stopped
    And everything is unmounted and detached by hand
    And the agent starts
    Then a volume is attached at "a"
    And everything that fsync confirmed is at "a"
    When the agent is stopped
    And everything is unmounted and detached by hand
    Then `e2fsck -fn` finds nothing wrong in the image of "a"
