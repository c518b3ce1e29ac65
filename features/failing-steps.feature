Feature: A step that fails leaves nothing behind
  Contract, section 3, promise 6: the reason names the step, and the same job with a new id works.

  @loop @failpoints
  Scenario Outline: A step of create fails on the loop store: <failpoint>
    Given an agent whose failpoint "<failpoint>" fails once with "<code>"
    And the agent starts
    And a directory "there"
    When a create job of 16 MiB for "there/new/deep" is sent
    Then it fails with "<code>"
    And its reason names the step "<step>"
    And nothing is left
    When the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "there/new/deep"
    When a delete job for "there/new/deep" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

    Examples:
      | failpoint                   | step              | code     |
      | loop.reserve                | reserve           | no-space |
      | loop.stage                  | stage             | no-space |
      | loop.image                  | image             | no-space |
      | loop.format                 | format            | internal |
      | loop.own                    | own               | internal |
      | loop.record                 | record            | no-space |
      | loop.publish                | publish           | internal |
      | loop.published              | published         | internal |
      | loop.attach                 | attach            | no-space |
      | mount.directories           | make directories  | internal |
      | mount.mount                 | mount             | damaged  |
      | mount.remove-lost-and-found | remove lost+found | internal |
      | mount.move                  | move mount        | internal |

  @fake @failpoints
  Scenario Outline: A step of create fails on the fake store: <failpoint>
    Given an agent whose failpoint "<failpoint>" fails once with "<code>"
    And the agent starts
    And a directory "there"
    When a create job of 16 MiB for "there/new/deep" is sent
    Then it fails with "<code>"
    And its reason names the step "<step>"
    And nothing is left
    When the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "there/new/deep"
    When a delete job for "there/new/deep" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

    Examples:
      | failpoint      | step           | code     |
      | fake.directory | fake.directory | no-space |
      | fake.owner     | fake.owner     | internal |
      | fake.record    | fake.record    | no-space |
      | fake.publish   | fake.publish   | internal |

  @failpoints
  Scenario Outline: The journal fails when a job <when>
    Given an agent whose failpoint "journal.commit" fails after <before> times with "no-space"
    And the agent starts
    When a create job of 16 MiB for "there/new" is sent
    Then it fails with "no-space"
    And nothing is left
    When the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "there/new"

    Examples:
      | when                    | before |
      | is taken                | 0      |
      | remembers where it goes | 1      |

  @loop @serial
  Scenario: The program that formats is missing
    Given a running agent in a mount namespace of its own
    When the program "mke2fs" cannot be run there
    And a create job of 16 MiB for "a/b" is sent
    Then it fails with "unsupported"
    And its reason names the step "format"
    And its reason names "mkfs.ext4"
    And nothing is left
    When the program "mke2fs" can be run again
    And the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else

  @loop @serial
  Scenario Outline: A program that formats fails: <program>
    Given a running agent in a mount namespace of its own
    When the program "<program>" fails there, saying "the moon is in the wrong house"
    And a create job of 16 MiB for "a/b" is sent
    Then it fails with "internal"
    And its reason names the step "format"
    And its reason names "the moon is in the wrong house"
    And nothing is left
    When the program "<program>" can be run again
    And the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else

    Examples:
      | program |
      | mke2fs  |
      | debugfs |

  @loop
  Scenario: The store is on a small file system, and the volume is thick
    Given a running agent with its store on a file system of 64 MiB
    When a create job of 100 MiB for "a/b" is sent with:
      | provision | thick |
    Then it fails with "no-space"
    And nothing is left
    When a create job of 32 MiB for "a/b" is sent with:
      | provision | thick |
    Then it is answered PENDING and DONE, and nothing else

  @loop
  Scenario: The store's file system is full
    Given a running agent with its store on a file system of 64 MiB
    When that file system is filled
    And a create job of 16 MiB for "a/b" is sent
    Then it fails with "no-space"
    And nothing is left
    When that file system has room again
    And the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else

  @loop
  Scenario: The journal's file system is full, and a delete still works
    Given a running agent with its state on a file system of 16 MiB
    And a volume of 16 MiB at "before"
    When that file system is filled
    And create jobs are sent until one fails with "no-space"
    And a delete job for "before" is sent
    Then it is DONE in the end
    And no volume is attached at "before"
    When that file system has room again
    And a create job of 16 MiB for "after" is sent
    Then it is answered PENDING and DONE, and nothing else

  @loop @failpoints
  Scenario Outline: A step of delete fails, and the volume is as before or gone: <failpoint>
    Given an agent whose failpoint "<failpoint>" fails once with "internal"
    And the agent starts
    And a volume of 16 MiB at "there/new"
    And a file at "there/new/precious"
    When a delete job for "there/new" is sent
    Then it fails with "internal"
    And a volume is attached at "there/new"
    And the file "there/new/precious" is as it was
    When the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

    Examples:
      | failpoint     |
      | mount.unmount |
      | loop.decide   |
