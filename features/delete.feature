Feature: A delete job leaves nothing of a volume
  Contract, section 4. What is in use, foreign or unreadable stays as it is.

  Background:
    Given a running agent

  Scenario: Where there is nothing, there is nothing to do
    When a delete job for "nothing/here" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: The content goes with the volume
    Given a volume of 16 MiB at "full"
    When a program writes 4 MiB to "full"
    And a delete job for "full" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A volume is found by its name
    Given a volume of 16 MiB at "found" named "lost"
    When it publishes to delete:
      """
      {"job": "by-name", "sipId": "{sender}", "name": "lost"}
      """
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A mount point can be used again, for another size
    Given a volume of 16 MiB at "again"
    When a delete job for "again" is sent
    Then it is answered PENDING and DONE, and nothing else
    When a create job of 32 MiB for "again" is sent
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "again"

  Scenario: Only directories that DVS made and that are empty are removed
    Given a directory "mine"
    And a volume of 16 MiB at "mine/theirs/volume"
    When somebody puts a file at "mine/theirs/note"
    And a delete job for "mine/theirs/volume" is sent
    Then it is answered PENDING and DONE, and nothing else
    And the file "mine/theirs/note" is as it was
    And "mine/theirs/volume" does not exist
    And no volume is left

  @loop
  Scenario: A foreign mount stays
    Given a foreign mount at "foreign"
    When a delete job for "foreign" is sent
    Then it fails with "conflict"
    And the foreign mount at "foreign" is still there

  @loop
  Scenario: A volume in use stays, and can be deleted when it no longer is
    Given a volume of 16 MiB at "used"
    When somebody puts a file at "used/precious"
    And a program works in "used"
    And a delete job for "used" is sent
    Then it fails with "in-use"
    And a volume is attached at "used"
    And the file "used/precious" is as it was
    When the program has ended
    And a delete job for "used" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  @loop @serial
  Scenario: A volume that another mount namespace holds stays
    Given a volume of 16 MiB at "held"
    When somebody puts a file at "held/precious"
    And a program in a mount namespace of its own holds "held"
    And a delete job for "held" is sent
    Then it fails with "in-use"
    And a volume is attached at "held"
    And the file "held/precious" is as it was
    When the other mount namespace lets "held" go
    And a delete job for "held" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A delete by the wrong name changes nothing
    Given a volume of 16 MiB at "named" named "one"
    When a delete job for "named" is sent with:
      | name | two |
    Then it fails with "conflict"
    And a volume is attached at "named"
